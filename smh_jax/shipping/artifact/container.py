"""The bytes of an artifact: a safetensors file with metadata in JSON and a digest.

The metadata are a tensor of their own, compressed by zlib with a dictionary of what most of them
say (`dictionary.json`, which must stay as it is: files could not be read any more). In version 1
they were JSON in the header.

What a file says of itself is never believed: safetensors compares all sizes with what is there
before anything of that size is allocated, and names are looked up, never used as paths.
"""

import base64
import functools
import hashlib
import importlib.resources
import json
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
import zstandard

FORMAT_VERSION = 2
# The one key of the header's metadata.
KEY = "smh_jax"
_METADATA = "metadata"
_PACKED = ("manifest", "leaves", "class_names")
_MAX_METADATA = 2**25

_DIGEST = '\\"digest\\":\\"{}\\"'  # as it appears in JSON inside of JSON
_NO_DIGEST = "0" * 64
_ZSTANDARD_MAGIC = b"\x28\xb5\x2f\xfd"
# Trained numbers hardly compress; batch statistics of an untrained model may.
_MAX_COMPRESSION = 100
_MAX_HEADER = 2**24
_MAX_PARTS_HEADER = 2**20
_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def write(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], compress: bool) -> bytes:
    """The bytes of a file with these tensors and JSON-able metadata; the same for the same."""
    text = json.dumps(
        {"format_version": FORMAT_VERSION, "digest": _NO_DIGEST}, separators=(",", ":")
    )
    compressor = zlib.compressobj(9, zdict=_dictionary())
    packed = compressor.compress(_compact(metadata)) + compressor.flush()
    tensors = {**tensors, _METADATA: np.frombuffer(packed, np.uint8)}
    data = safetensors.numpy.save(tensors, metadata={KEY: text})
    place = _DIGEST.format(_NO_DIGEST).encode()
    data = data.replace(place, _DIGEST.format(hashlib.sha256(data).hexdigest()).encode(), 1)
    return zstandard.ZstdCompressor(level=19).compress(data) if compress else data


def write_header(content: Mapping[str, Any]) -> bytes:
    """Of a file of several parts: the length of a JSON text (uint32), its SHA-256 and the text."""
    text = _compact(content)
    return len(text).to_bytes(4, "little") + hashlib.sha256(text).digest() + text


def read_header(stream: BinaryIO) -> dict[str, Any]:
    """What `write_header` wrote, from where a stream stands; ValueError if it is not whole."""
    length = int.from_bytes(stream.read(4), "little")
    digest, text = stream.read(32), stream.read(min(length, _MAX_PARTS_HEADER))
    if hashlib.sha256(text).digest() != digest or len(text) != length:
        raise ValueError("its header is cut off or damaged")
    return json.loads(text)


def _compact(metadata: Mapping[str, Any]) -> bytes:
    return json.dumps(metadata, separators=(",", ":")).encode()


@functools.cache
def _dictionary() -> bytes:
    """Metadata of a typical file; zlib uses the last 32 kB."""
    return importlib.resources.files(__package__).joinpath("dictionary.json").read_bytes()


def read(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the metadata of what `write` gave.

    Raises ValueError if the bytes are not all of an artifact of this version, or were changed.
    """
    if data.startswith(_ZSTANDARD_MAGIC):
        data = _decompress(data)
    header_size = int.from_bytes(data[:8], "little")
    if header_size > min(len(data) - 8, _MAX_HEADER):
        raise ValueError(
            f"its header of {header_size} bytes is not in its {len(data)} bytes: it is cut off, "
            "or not an artifact"
        )
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"it is cut off or damaged, or not an artifact: {error!s:.200}") from error
    metadata = _metadata(data[8 : 8 + header_size])
    digest = str(metadata.get("digest"))
    blank = _DIGEST.format(_NO_DIGEST).encode()
    actual = hashlib.sha256(data.replace(_DIGEST.format(digest).encode(), blank, 1)).hexdigest()
    if actual != digest:
        raise ValueError("its content does not have the digest that it was written with: damaged")
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"its tensor {name!r:.80} has the unknown dtype {entry['dtype']}")
        values = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    if metadata["format_version"] == 1:
        return tensors, metadata | {key: _unpacked(metadata, key) for key in _PACKED}
    if _METADATA not in tensors:
        raise ValueError("it has no metadata")
    text = _inflate(tensors.pop(_METADATA).tobytes(), _dictionary())
    return tensors, _parsed(text)


def _metadata(header: bytes) -> dict[str, Any]:
    """The metadata in a valid safetensors header, if they are of this format version."""
    text = (json.loads(header).get("__metadata__") or {}).get(KEY)
    if text is None:
        raise ValueError("it is a safetensors file, but no artifact of smh_jax")
    metadata = _parsed(text)
    version = metadata.get("format_version")
    if version not in (1, FORMAT_VERSION):
        raise ValueError(
            f"its format version is {version!r:.80}; this version of smh_jax reads 1 and "
            f"{FORMAT_VERSION}"
        )
    return metadata


def _parsed(text: str) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata are not JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError("its metadata are not a JSON object")
    return metadata


def _unpacked(metadata: Mapping[str, Any], key: str) -> Any:
    """What version 1 compressed of its metadata."""
    try:
        return json.loads(_inflate(base64.b64decode(metadata[key], validate=True)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its metadata {key!r} cannot be read: {error!r:.200}") from error


def _inflate(data: bytes, dictionary: bytes = b"") -> str:
    decompressor = zlib.decompressobj(zdict=dictionary)
    try:
        text = decompressor.decompress(data, _MAX_METADATA)
    except zlib.error as error:
        raise ValueError(f"its metadata are damaged: {error}") from error
    if not decompressor.eof:
        raise ValueError(f"a description is cut off, or of more than {_MAX_METADATA} bytes")
    return text.decode()


def _decompress(data: bytes) -> bytes:
    """The content of a zstandard frame, if its size is believable."""
    limit = _MAX_COMPRESSION * len(data) + 2**20
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= limit:
            raise ValueError(
                f"its {len(data)} compressed bytes claim a content of {size} bytes; "
                f"at most {limit} are believed"
            )
        decompressor = zstandard.ZstdDecompressor(max_window_size=2**27)
        return decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"its zstandard compression is damaged: {error}") from error
