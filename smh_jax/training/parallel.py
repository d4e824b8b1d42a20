"""Data parallelism over all devices of all hosts: the one place that knows how it is done.

State is replicated: each leaf has a leading axis of local devices. Batches are split over it.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# The mapped axis: the name for collectives inside of steps.
AXIS_NAME = "batch"

_PREFETCHED_BATCHES = 2
Tree = TypeVar("Tree")


def map_replicas(
    step: Callable[..., Any], *, donate_state: bool, devices: Sequence[jax.Device] | None = None
) -> Callable[..., Any]:
    """Compiles `step(state, batch, ...)` to run on every device, on its part of each argument.

    Args:
        step: pure; collectives inside of it name `AXIS_NAME`.
        donate_state: whether the memory of the state is given to the step.
        devices: to compile for in place of those of this program.
    """
    donated = (0,) if donate_state else ()
    return jax.pmap(step, axis_name=AXIS_NAME, donate_argnums=donated, devices=devices)


def replica_groups(field: str, size: int, num_devices: int) -> tuple[tuple[int, ...], ...]:
    """All replicas in groups of `size` neighbours; ValueError unless they come out even."""
    if num_devices % size:
        even = [str(n) for n in range(1, num_devices + 1) if num_devices % n == 0]
        raise ValueError(
            f"{field}={size} does not divide the {num_devices} devices; "
            f"use {' or '.join(filter(None, (', '.join(even[:-1]), even[-1])))}"
        )
    return tuple(tuple(range(first, first + size)) for first in range(0, num_devices, size))


def _sharding() -> NamedSharding:
    mesh = Mesh(np.array(jax.local_devices()), (AXIS_NAME,))
    return NamedSharding(mesh, PartitionSpec(AXIS_NAME))


def replicate(tree: Tree) -> Tree:
    """Copies every leaf to each local device: [...] becomes [local devices, ...]."""
    devices, sharding = jax.local_device_count(), _sharding()

    def put(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.device_put(np.broadcast_to(leaf, (devices, *leaf.shape)), sharding)

    return jax.tree.map(put, tree)


def first_replica(tree: Tree) -> Tree:
    """The first local replica of every leaf, on the host; waits for its computation.

    Computes nothing on a device, where it would have to queue behind what was dispatched since.
    """
    shards = jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))
    # Copied, since on a CPU it may be the device's own memory, which could then not be donated.
    return jax.tree.map(lambda shard: np.array(shard[0]), shards)


def to_devices(batches: Iterable[Tree]) -> Iterator[Tree]:
    """Splits batches over the local devices, a few batches ahead of their use.

    Each leaf [examples, ...] becomes [local devices, examples / local devices, ...].
    """
    devices, sharding = jax.local_device_count(), _sharding()

    def put(leaf: np.ndarray) -> jax.Array:
        return jax.device_put(leaf.reshape(devices, -1, *leaf.shape[1:]), sharding)

    ahead: collections.deque[Tree] = collections.deque()
    for batch in batches:
        ahead.append(jax.tree.map(put, batch))
        if len(ahead) > _PREFETCHED_BATCHES:
            yield ahead.popleft()
    yield from ahead


def check_batch_size(field: str, batch_size: int, parts: int, named: str) -> None:
    """Raises ValueError unless the batch can be split evenly into `parts`, which are `named`."""
    if batch_size % parts:
        below = batch_size // parts * parts
        near = f"{below} or {below + parts}" if below else f"{parts}"
        raise ValueError(f"{field}={batch_size} is not divisible by the {named}; use {near}")
