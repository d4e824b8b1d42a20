"""A file of several sizes of one model, of which every smaller one is the beginning.

    MAGIC, the header as `container.read_header` reads it
    the smallest size: a file as `file.encode` makes it
    for every further size: the hash pairs that it has more, its scales and batch statistics

Each part has a digest of its own, so that the beginning of a file, such as what a download has
brought so far, is the file of fewer sizes. Hash pairs are as the largest size has them; those of a
smaller one are multiplied by `methods.elastic.factor` when they are read.
"""

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from smh_jax.config.files import write_bytes
from smh_jax.methods import SMH, Variables
from smh_jax.methods.elastic import factor, joined, multiplied, pairs_of, target_of
from smh_jax.shipping.artifact import container, file, layout
from smh_jax.shipping.artifact.artifact import Artifact, restored

MAGIC = b"smh_sizes_1\n"


def encode(artifacts: Mapping[int, Artifact], precision: str = "float32") -> bytes:
    """The bytes of the file of several sizes.

    Args:
        artifacts: of one elastic run at precision 'float32', by the number of variables that names
            the size, rising.
        precision: of the pools; each size's further hash pairs are rounded by themselves.

    Raises:
        ValueError: for an unknown precision, or models of which one is not the beginning of the
            next.
    """
    by_size = tuple(artifacts.values())
    _check_nested(by_size)
    pools, parts, first = by_size[-1].stored["pools"], [], 0
    for artifact in by_size:
        end = artifact.method.num_hash_pairs
        stored = {**artifact.stored, "pools": pairs_of(pools, first, end)}
        if first:
            # They are in the first part.
            del stored["stored"]
        rounded = dataclasses.replace(artifact, stored=stored).at(precision)
        parts.append(_further(rounded) if first else file.encode(rounded))
        first = end
    header = {
        "num_weights": by_size[0].method.manifest.num_weights,
        "sizes": [
            {
                "size": size,
                "target_size": artifact.method.target_size,
                "num_variables": artifact.method.num_variables,
                "num_hash_pairs": artifact.method.num_hash_pairs,
                "bytes": len(part),
            }
            for (size, artifact), part in zip(artifacts.items(), parts, strict=True)
        ],
    }
    return b"".join([MAGIC, container.write_header(header), *parts])


def save_sizes(
    path: str | os.PathLike[str],
    artifacts: Mapping[int, Artifact],
    *,
    precision: str = "float32",
    overwrite: bool = False,
) -> None:
    """Writes several sizes of a model into one file; for the arguments see `encode`.

    Raises:
        ValueError: if the file exists, or as `encode`.
    """
    file.check_new(path, overwrite)
    write_bytes(path, encode(artifacts, precision))


def read(stream: BinaryIO, size: float | None, max_bytes: int | None) -> Artifact:
    """The model of one size, of a stream that stands behind the magic; see `reading.load`."""
    header = container.read_header(stream)
    sizes, begin = header["sizes"], stream.tell()
    ends = _ends(header, begin)
    there = stream.seek(0, os.SEEK_END)
    stream.seek(begin)
    if size is not None:
        count = _index_of(size, header) + 1
    elif max_bytes is not None:
        count = sum(end <= min(max_bytes, there) for end in ends)
        if ends[0] > max_bytes:
            raise ValueError(f"max_bytes={max_bytes}: the smallest size has {ends[0]} bytes")
    else:
        count = sum(end <= there for end in ends)
    wanted = ends[max(count, 1) - 1]
    if there < wanted:
        raise ValueError(f"it is cut off after {there} bytes; this size has {wanted}")
    return _assemble(header, [stream.read(entry["bytes"]) for entry in sizes[:count]])


def ends(path: str | os.PathLike[str]) -> dict[int, int]:
    """Of a file that `save_sizes` wrote: how many of its first bytes each size takes."""
    with open(path, "rb") as stream:
        stream.seek(len(MAGIC))
        header = container.read_header(stream)
        names = (entry["size"] for entry in header["sizes"])
        return dict(zip(names, _ends(header, stream.tell()), strict=True))


def _ends(header: Mapping[str, Any], begin: int) -> list[int]:
    """Where the parts end, of which the first begins there."""
    return [begin + end for end in itertools.accumulate(e["bytes"] for e in header["sizes"])]


def _further(artifact: Artifact) -> bytes:
    """The part of a size besides those before it."""
    tensors, leaves = file.pack(artifact)
    metadata = {
        "leaves": leaves,
        "provenance": {"test_accuracy": artifact.provenance.get("test_accuracy")},
    }
    return container.write(tensors, metadata, compress=False)


def _check_nested(artifacts: Sequence[Artifact]) -> None:
    largest, fewer = artifacts[-1], 0
    for artifact in artifacts:
        method = artifact.method
        if not isinstance(method, SMH) or artifact.precision != "float32":
            raise ValueError(f"{artifact!r} is no float32 model of method 'smh'")
        if not fewer < method.num_hash_pairs <= largest.method.num_hash_pairs:
            raise ValueError(f"{artifact!r} is not of more hash pairs than the size before it")
        fewer = method.num_hash_pairs
        same = dataclasses.replace(largest.method, target_size=method.target_size) == method
        wanted = _first_pairs(largest.stored["pools"], method, largest.method.num_hash_pairs)
        if not same or not all(
            np.array_equal(wanted[key], artifact.stored["pools"][key]) for key in wanted
        ):
            raise ValueError(f"{artifact!r} is not the beginning of {largest!r}")


def _first_pairs(pools: Variables, method: SMH, largest: int) -> Variables:
    """The pools of a size, of those of the largest."""
    pairs = method.num_hash_pairs
    factors = jnp.broadcast_to(factor(pairs, largest), (pairs,))
    return multiplied(pairs_of(pools, 0, pairs), factors)


def _index_of(size: float, header: dict[str, Any]) -> int:
    sizes = [entry["size"] for entry in header["sizes"]]
    wanted = target_of(size, header["num_weights"])
    if wanted not in sizes:
        raise ValueError(f"size={size:g} is none of those in it: {', '.join(map(str, sizes))}")
    return sizes.index(wanted)


def _assemble(header: dict[str, Any], parts: Sequence[bytes]) -> Artifact:
    """The model of the size of the last part."""
    smallest = file.decode(parts[0])
    pools, last = [smallest.variables["pools"]], smallest.method
    variables, state, described = smallest.variables, smallest.model_state, {}
    for entry, part in zip(header["sizes"][1:], parts[1:], strict=False):
        tensors, described = container.read(part)
        method = dataclasses.replace(last, target_size=entry["target_size"])
        shapes = method.abstract_variables
        more = _more_pairs(shapes["pools"], last.num_hash_pairs)
        like = {**shapes, "pools": more, "model_state": smallest.model_state}
        del like["stored"]
        further = restored(layout.unpack(tensors, file.leaves_of(described), like), like)
        pools.append(further.pop("pools"))
        state, last = further.pop("model_state"), method
        variables = {**variables, **further}
    largest = header["sizes"][-1]["num_hash_pairs"]
    return dataclasses.replace(
        smallest,
        method=last,
        stored={**variables, "pools": _first_pairs(joined(pools), last, largest)},
        model_state=state,
        precision="float32",
        provenance={**smallest.provenance, **described.get("provenance", {})},
    )


def _more_pairs(pools: Variables, first: int) -> Variables:
    """Shapes of the hash pairs from `first` on."""
    u, v = pools["u"], pools["v"]
    more = u.shape[-1] - first
    return {
        "u": jax.ShapeDtypeStruct((*u.shape[:-1], more), u.dtype),
        "v": jax.ShapeDtypeStruct((*v.shape[:-2], more, v.shape[-1]), v.dtype),
    }
