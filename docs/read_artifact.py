"""Rebuilds a layer's weights from a model file, with NumPy alone: `weights(path, layer)`.

Coded pools need constriction besides, whose coder they were written with.
"""

import json
import math
import pathlib
import zlib

import numpy as np

DTYPES = {"F32": "<f4", "BF16": "<u2", "I8": "i1", "U8": "u1", "U32": "<u4"}
DICTIONARY = pathlib.Path(__file__).parents[1] / "smh_jax/shipping/artifact/dictionary.json"
MANTISSAS = [256, 267, 279, 292, 304, 318, 332, 347, 362, 378, 395, 412, 431, 450, 470, 490]
CODED, SMALL = ("int3", "int2", "ternary", "coded"), ("linear8", "log8")


def weights(path, layer):
    tensors = read(path)
    inflate = zlib.decompressobj(zdict=DICTIONARY.read_bytes())
    about = json.loads(inflate.decompress(tensors.pop("metadata").tobytes()))
    groups = arrays(tensors, about["leaves"])
    pools, scales = groups["pools"], groups["scales"][""]
    hashed = [t for t in about["manifest"]["tensors"] if t["hashed"]]
    index = ["/".join(t["path"]) for t in hashed].index(layer)
    shape, first = hashed[index]["shape"], sum(math.prod(t["shape"]) for t in hashed[:index])
    flat = (pools["u"] @ pools["v"]).ravel()[first : first + math.prod(shape)]
    deviation = hashed[index]["initial"]["stddev"] or 1.0
    return deviation * scales[index] * flat.reshape(shape)


def read(path):
    """The flat tensors of the file, by name."""
    raw = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__")
    return {
        name: np.frombuffer(
            raw, DTYPES[t["dtype"]], math.prod(t["shape"]), start + t["data_offsets"][0]
        )
        for name, t in header.items()
    }


def arrays(tensors, leaves):
    """Float arrays by group and name; in each tensor they lie one after the other."""
    groups, begin = {}, dict.fromkeys(tensors, 0)
    symbols = decoder(tensors) if "coded/stream" in tensors else None

    def take(name, count):
        begin[name] += count
        return tensors[name][begin[name] - count : begin[name]]

    for group, described in leaves.items():
        groups[group] = {}
        for name, dtype, shape in described:
            size = math.prod(shape)
            if dtype in CODED:
                values = symbols(size)
            elif dtype in SMALL:
                values = take(f"coded/{dtype}", size)
            else:
                values = take(f"{group}/{dtype}", -(-size // 2) if dtype == "int4" else size)
            if dtype == "bfloat16":
                values = upper_halves(values)
            if dtype == "int4":  # two in a byte, each plus 8, the first in the low bits
                values = np.stack([values & 15, values >> 4], axis=1).ravel()[:size] - 8.0
            if dtype == "coded" or dtype in SMALL:  # one scale for all
                values = values * upper_halves(take("coded/steps", 1))
            elif dtype.startswith("int") or dtype == "ternary":
                # Rows, together at least 80 elements, share a scale.
                per_scale = shape[-1] * math.ceil(80 / shape[-1]) if len(shape) > 1 else 128
                scales = take(f"{group}/row_scales", math.ceil(size / per_scale))
                values = values * np.repeat(scales, per_scale)[:size]
            values = np.exp2(values) if dtype == "log8" else values
            groups[group][name] = values.astype(np.float32).reshape(shape)
    return groups


def upper_halves(values):
    """Numbers in bfloat16, the upper halves of float32."""
    return (values.astype(np.uint32) << 16).view(np.float32)


def decoder(tensors):
    """A function that gives the next so many integers."""
    import constriction

    coder = constriction.stream.stack.AnsCoder(tensors["coded/stream"].copy())
    tables = iter(tensors["coded/tables"].tolist())

    def symbols(size):
        low, codes = next(tables) - 128, [next(tables) for _ in range(next(tables) + 1)]
        counts = [MANTISSAS[(c - 1) % 16] << (c - 1) // 16 if c else 0 for c in codes] + [0]
        model = constriction.stream.model.Categorical(np.array(counts, float), perfect=False)
        return coder.decode(model, size) + low

    return symbols
