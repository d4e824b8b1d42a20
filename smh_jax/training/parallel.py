"""Data parallelism over all devices of all hosts: the one place that knows how it is done.

Steps are functions of what one device sees; they do not know which backend maps them.
"""

import abc
import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# The mapped axis: the name for collectives inside of steps.
AXIS_NAME = "batch"

_PREFETCHED_BATCHES = 2
Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Backend(abc.ABC):
    """How one step runs on all devices: state is replicated, and batches are split over them."""

    @abc.abstractmethod
    def map_replicas(
        self,
        step: Callable[..., Any],
        *,
        donate_state: bool,
        devices: Sequence[jax.Device] | None = None,
    ) -> Callable[..., Any]:
        """Compiles `step(state, batch, ...)` to run on every device, on its part of the batch.

        Args:
            step: pure; collectives inside of it name `AXIS_NAME`. What it returns is the same on
                all devices, as are its arguments but for the second.
            donate_state: whether the memory of the state is given to the step.
            devices: to compile for in place of those of this program.
        """

    @abc.abstractmethod
    def replicate(self, tree: Tree) -> Tree:
        """Copies every leaf to each device."""

    @abc.abstractmethod
    def first_replica(self, tree: Tree) -> Tree:
        """The first local replica of every leaf, on the host; waits for its computation.

        Computes nothing on a device, where it would have to queue behind what was dispatched since.
        """

    @abc.abstractmethod
    def split(self, leaf: np.ndarray) -> jax.Array:
        """This host's part [examples, ...] of a batch, split over its devices."""

    @abc.abstractmethod
    def abstract(self, tree: Tree, num_devices: int, *, split: bool) -> Tree:
        """Shapes of the replicated or split arguments, given those that one device sees."""

    def to_devices(self, batches: Iterable[Tree]) -> Iterator[Tree]:
        """Splits batches over the local devices, a few batches ahead of their use."""
        ahead: collections.deque[Tree] = collections.deque()
        for batch in batches:
            ahead.append(jax.tree.map(self.split, batch))
            if len(ahead) > _PREFETCHED_BATCHES:
                yield ahead.popleft()
        yield from ahead


class Pmap(Backend):
    """`jax.pmap`: every array has a leading axis of local devices."""

    def map_replicas(self, step, *, donate_state, devices=None):
        donated = (0,) if donate_state else ()
        return jax.pmap(step, axis_name=AXIS_NAME, donate_argnums=donated, devices=devices)

    def replicate(self, tree):
        devices, sharding = jax.local_device_count(), self._sharding()

        def put(leaf: Any) -> jax.Array:
            leaf = np.asarray(leaf)
            return jax.device_put(np.broadcast_to(leaf, (devices, *leaf.shape)), sharding)

        return jax.tree.map(put, tree)

    def first_replica(self, tree):
        return jax.tree.map(lambda replica: replica[0], _first_shards(tree))

    def split(self, leaf):
        shape = (jax.local_device_count(), -1, *leaf.shape[1:])
        return jax.device_put(leaf.reshape(shape), self._sharding())

    def abstract(self, tree, num_devices, *, split):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((num_devices, *x.shape), x.dtype), tree)

    @staticmethod
    def _sharding() -> NamedSharding:
        return NamedSharding(_mesh(jax.local_devices()), P(AXIS_NAME))


class ShardMap(Backend):
    """`jax.jit` of `jax.shard_map`: arrays are global, over the devices of all hosts."""

    def map_replicas(self, step, *, donate_state, devices=None):
        mesh = _mesh(devices or jax.devices())

        def mapped(state, batch, *rest):
            return jax.shard_map(
                step,
                mesh=mesh,
                in_specs=(P(), P(AXIS_NAME), *(P() for _ in rest)),
                out_specs=P(),
                # The steps average over devices themselves, as under `jax.pmap`.
                check_vma=False,
            )(state, batch, *rest)

        return jax.jit(mapped, donate_argnums=(0,) if donate_state else ())

    def replicate(self, tree):
        sharding = NamedSharding(_mesh(jax.devices()), P())

        def put(leaf: Any) -> jax.Array:
            leaf = np.asarray(leaf)
            return jax.make_array_from_callback(leaf.shape, sharding, lambda _: leaf)

        return jax.tree.map(put, tree)

    def first_replica(self, tree):
        return _first_shards(tree)

    def split(self, leaf):
        sharding = NamedSharding(_mesh(jax.devices()), P(AXIS_NAME))
        return jax.make_array_from_process_local_data(sharding, leaf)

    def abstract(self, tree, num_devices, *, split):
        def shape(x):
            whole = (num_devices * x.shape[0], *x.shape[1:]) if split else x.shape
            return jax.ShapeDtypeStruct(whole, x.dtype)

        return jax.tree.map(shape, tree)


_BACKENDS = {"pmap": Pmap(), "shard_map": ShardMap()}


def backend(name: str = "pmap") -> Backend:
    """The backend of a name: 'pmap' or 'shard_map'."""
    return _BACKENDS[name]


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), (AXIS_NAME,))


def _first_shards(tree: Tree) -> Tree:
    shards = jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))
    # Copied, since on a CPU it may be the device's own memory, which could then not be donated.
    return jax.tree.map(np.array, shards)


def replica_groups(field: str, size: int, num_devices: int) -> tuple[tuple[int, ...], ...]:
    """All replicas in groups of `size` neighbors; ValueError unless they come out even."""
    if num_devices % size:
        even = [str(n) for n in range(1, num_devices + 1) if num_devices % n == 0]
        raise ValueError(
            f"{field}={size} does not divide the {num_devices} devices; "
            f"use {' or '.join(filter(None, (', '.join(even[:-1]), even[-1])))}"
        )
    return tuple(tuple(range(first, first + size)) for first in range(0, num_devices, size))


def check_batch_size(field: str, batch_size: int, parts: int, named: str) -> None:
    """Raises ValueError unless the batch can be split evenly into `parts`, which are `named`."""
    if batch_size % parts:
        below = batch_size // parts * parts
        near = f"{below} or {below + parts}" if below else f"{parts}"
        raise ValueError(f"{field}={batch_size} is not divisible by the {named}; use {near}")
