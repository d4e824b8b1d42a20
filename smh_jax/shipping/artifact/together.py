"""A file of several tasks that share their pools, of which no more is read than one task needs.

    MAGIC, the header as `container.read_header` reads it
    the pools: the hash pairs of the first tasks, then those that each growth added
    for every task: a file as `file.encode` makes it, without pools

The hash pairs that a growth added are rounded by themselves: what was there keeps its numbers.
"""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from smh_jax.config.files import write_bytes
from smh_jax.config.names import check_known
from smh_jax.methods import Variables, Window, shared
from smh_jax.methods.elastic import joined, pairs_of
from smh_jax.methods.rounding import dequantize
from smh_jax.shipping.artifact import container, file, layout
from smh_jax.shipping.artifact.artifact import Artifact
from smh_jax.shipping.artifact.layout import is_quantized

MAGIC = b"smh_tasks_1\n"


def encode(artifacts: Mapping[str, Artifact], precision: str = "float32") -> bytes:
    """The bytes of the file of several tasks.

    Args:
        artifacts: by task, at precision 'float32', whose pools all are the first hash pairs of the
            same ones.
        precision: of the pools.

    Raises:
        ValueError: for an unknown precision, or pools that are not shared.
    """
    largest = max(artifacts.values(), key=lambda artifact: _num_pairs(artifact))
    for name, artifact in artifacts.items():
        _check_shared(name, artifact, largest)
    levels = sorted({_num_pairs(artifact) for artifact in artifacts.values()})
    pools, tasks = [], []
    for first, end in itertools.pairwise([0, *levels]):
        part = {"pools": pairs_of(largest.stored["pools"], first, end)}
        rounded = dataclasses.replace(largest, stored=part).at(precision).stored
        tensors, leaves = layout.pack(rounded)
        pools.append(container.write(tensors, {"leaves": leaves}, compress=False))
    for artifact in artifacts.values():
        own = dataclasses.replace(artifact, stored={**artifact.stored, "pools": {}}).at(precision)
        del own.stored["pools"]
        tasks.append(file.encode(own))
    header = {
        "pools": [
            {"num_hash_pairs": end, "bytes": len(part)}
            for end, part in zip(levels, pools, strict=True)
        ],
        "tasks": [
            {"task": name, "pools": levels.index(_num_pairs(artifact)) + 1, "bytes": len(part)}
            for (name, artifact), part in zip(artifacts.items(), tasks, strict=True)
        ],
    }
    return b"".join([MAGIC, container.write_header(header), *pools, *tasks])


def save_tasks(
    path: str | os.PathLike[str],
    artifacts: Mapping[str, Artifact],
    *,
    precision: str = "float32",
    overwrite: bool = False,
) -> None:
    """Writes several tasks into one file; for the arguments see `encode`.

    Raises:
        ValueError: if the file exists, or as `encode`.
    """
    file.check_new(path, overwrite)
    write_bytes(path, encode(artifacts, precision))


def read(stream: BinaryIO, task: str | None = None) -> dict[str, Artifact]:
    """The models by task, of a stream that stands behind the magic.

    Their pools are the same arrays where they have as many hash pairs.

    Args:
        stream: of the file.
        task: to be read alone; None for all.
    """
    header = container.read_header(stream)
    begin = stream.tell()
    entries = {entry["task"]: entry for entry in header["tasks"]}
    if task is not None:
        check_known(f"task={task!r}", task, entries)
    sizes = [entry["bytes"] for entry in (*header["pools"], *header["tasks"])]
    starts = [begin, *(begin + end for end in itertools.accumulate(sizes))]
    wanted = {name: entry for name, entry in entries.items() if task in (None, name)}

    def part(index: int) -> bytes:
        stream.seek(starts[index])
        data = stream.read(sizes[index])
        if len(data) < sizes[index]:
            raise ValueError(f"it is cut off: its part {index + 1} is not whole")
        return data

    count = max(entry["pools"] for entry in wanted.values())
    pools = [_pools(part(index)) for index in range(count)]
    levels = [_up_to(pools[: index + 1]) for index in range(count)]
    artifacts = {}
    for index, (name, entry) in enumerate(entries.items(), start=len(header["pools"])):
        if name in wanted:
            artifact = file.decode(part(index), levels[entry["pools"] - 1])
            precision = artifact.precision if entry["pools"] == 1 else "float32"
            artifacts[name] = dataclasses.replace(artifact, precision=precision)
    return artifacts


def alone(artifact: Artifact) -> Artifact:
    """A task's model as one that shares nothing: float32, with the part of the pools it needs."""
    if not isinstance(artifact.method, Window):
        raise ValueError(f"{artifact!r} shares no pools")
    method, stored = shared.alone(artifact.method, artifact.variables)
    return dataclasses.replace(artifact, method=method, stored=stored, precision="float32")


def _num_pairs(artifact: Artifact) -> int:
    return artifact.method.num_hash_pairs


def _check_shared(name: str, artifact: Artifact, largest: Artifact) -> None:
    method = artifact.method
    if not isinstance(method, Window) or artifact.precision != "float32":
        raise ValueError(f"task {name!r}: {artifact!r} is no float32 model that shares its pools")
    wanted = pairs_of(largest.stored["pools"], 0, method.num_hash_pairs)
    if method.matrix_shape != largest.method.matrix_shape or not all(
        np.array_equal(wanted[key], artifact.stored["pools"][key]) for key in wanted
    ):
        raise ValueError(f"task {name!r}: {artifact!r} has other pools than {largest!r}")


def _pools(data: bytes) -> Variables:
    """Those of one part, on the default device."""
    tensors, metadata = container.read(data)
    leaves = file.leaves_of(metadata)
    like = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, _, shape in leaves["pools"]}
    return jax.tree.map(jnp.asarray, layout.unpack(tensors, leaves, {"pools": like})["pools"])


def _up_to(parts: list[Variables]) -> Variables:
    """The hash pairs of several parts; integers of one part stay as they are stored."""
    if len(parts) == 1:
        return parts[0]

    def values(leaf: Any) -> jax.Array:
        return dequantize(leaf) if is_quantized(leaf) else leaf.astype(jnp.float32)

    return joined([jax.tree.map(values, part, is_leaf=is_quantized) for part in parts])
