"""Rebuilds a layer's weights from a model file, with NumPy alone: `weights(path, layer)`."""

import base64
import json
import math
import pathlib
import zlib

import numpy as np

DTYPES = {"F32": "<f4", "BF16": "<u2", "I8": "i1", "U8": "u1"}


def weights(path, layer):
    raw = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    about = json.loads(header.pop("__metadata__")["smh_jax"])
    for key in ("leaves", "manifest"):
        about[key] = json.loads(zlib.decompress(base64.b64decode(about[key])))
    tensors = {name: np.frombuffer(raw, DTYPES[t["dtype"]], math.prod(t["shape"]), start + t["data_offsets"][0]) for name, t in header.items()}  # fmt: skip # noqa: E501
    pools, begin, row = {}, 0, 0
    for name, dtype, shape in about["leaves"]["pools"]:
        size = math.prod(shape)
        stored = -(-size // 2) if dtype == "int4" else size
        values = tensors[f"pools/{dtype}"][begin : begin + stored]
        if dtype == "bfloat16":  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        if dtype == "int4":  # two in a byte, each plus 8, the first in the low bits
            values = np.stack([values & 15, values >> 4], axis=1).ravel()[:size] - 8.0
        if dtype in ("int8", "int4"):  # rows, together at least 80 elements, share a scale
            per_scale = shape[-1] * math.ceil(80 / shape[-1])
            scales = tensors["pools/row_scales"][row : row + math.ceil(size / per_scale)]
            values, row = values * np.repeat(scales, per_scale)[:size], row + len(scales)
        pools[name], begin = values.reshape(shape), begin + stored
    hashed = [t for t in about["manifest"]["tensors"] if t["hashed"]]
    index = ["/".join(t["path"]) for t in hashed].index(layer)
    shape, first = hashed[index]["shape"], sum(math.prod(t["shape"]) for t in hashed[:index])
    flat = (pools["u"] @ pools["v"]).ravel()[first : first + math.prod(shape)]
    deviation = hashed[index]["initial"]["stddev"] or 1.0
    return deviation * tensors["scales/float32"][index] * flat.reshape(shape)
