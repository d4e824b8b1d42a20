"""Data parallelism over all devices of all hosts: the one place that knows how it is done.

State is replicated: each leaf has a leading axis of local devices. Batches are split over it.
"""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# The mapped axis: the name for collectives inside of steps.
AXIS_NAME = "batch"

_PREFETCHED_BATCHES = 2
Tree = TypeVar("Tree")


def map_replicas(step: Callable[..., Any], *, donate_state: bool) -> Callable[..., Any]:
    """Compiles `step(state, batch, ...)` to run on every device, on its part of each argument."""
    return jax.pmap(step, axis_name=AXIS_NAME, donate_argnums=(0,) if donate_state else ())


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
    """The first local replica of every leaf, on the host; waits for its computation."""
    return jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0)[0], tree))


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


def check_batch_size(field: str, batch_size: int) -> None:
    """Raises ValueError unless the batch can be split evenly over all devices of all hosts."""
    devices = jax.device_count()
    if batch_size % devices:
        below = batch_size // devices * devices
        near = f"{below} or {below + devices}" if below else f"{devices}"
        raise ValueError(
            f"{field}={batch_size} is not divisible by the {devices} devices; use {near}"
        )
