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

from smh_jax.methods import spread
from smh_jax.training import divided

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
    def abstract(self, tree: Tree, devices: Sequence[jax.Device], *, split: bool) -> Tree:
        """Shapes of the replicated or split arguments, given those that one device sees."""

    def check_processes(self) -> None:
        """Raises ValueError where it cannot be over the devices of this program's processes."""
        return

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

    def abstract(self, tree, devices, *, split):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(devices), *x.shape), x.dtype), tree)

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

    def abstract(self, tree, devices, *, split):
        def shape(x):
            whole = (len(devices) * x.shape[0], *x.shape[1:]) if split else x.shape
            return jax.ShapeDtypeStruct(whole, x.dtype)

        return jax.tree.map(shape, tree)


@dataclasses.dataclass(frozen=True)
class Spread(Backend):
    """`ShardMap` in which several neighboring devices share a replica: its state and its examples.

    Every large array of a state, such as a pool and what the optimizer keeps of it, is split along
    its longest axis. A step sees all of a replica's state and examples; the compiler lets each
    device compute its part.

    Attributes:
        model_devices: that share a replica.
    """

    model_devices: int

    def check_processes(self):
        # Each has to hold a whole replica, to save it.
        devices = jax.local_device_count()
        field = "parallel.model_devices"
        replica_groups(field, self.model_devices, devices, "devices of each process")

    def map_replicas(self, step, *, donate_state, devices=None):
        mesh = self._mesh(devices or jax.devices())

        def replica_step(*args):
            return divided.divide(step(*divided.undivide(args)), self.model_devices)

        def mapped(state, batch, *rest):
            if mesh.shape[AXIS_NAME] == 1:
                # XLA refuses to map an axis of one device by hand and another one itself.
                with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                    one = jax.vmap(replica_step, None, None, axis_name=AXIS_NAME, axis_size=1)
                    return one(state, batch, *rest)
            return jax.shard_map(
                replica_step,
                mesh=mesh,
                in_specs=(P(), P(AXIS_NAME), *(P() for _ in rest)),
                out_specs=P(),
                # The compiler maps the other axis.
                axis_names={AXIS_NAME},
                check_vma=False,
            )(state, batch, *rest)

        return jax.jit(mapped, donate_argnums=(0,) if donate_state else ())

    def replicate(self, tree):
        mesh = self._mesh(jax.devices())

        def put(leaf: Any) -> Any:
            leaf = np.asarray(leaf)
            padding = divided.padding(leaf.shape, self.model_devices)
            padded = np.pad(leaf, padding) if padding else leaf
            sharding = NamedSharding(mesh, divided.spec_of(leaf.shape))
            array = jax.make_array_from_callback(padded.shape, sharding, lambda i: padded[i])
            return _node(array, leaf.shape)

        return jax.tree.map(put, tree)

    def first_replica(self, tree):
        leaves, structure = jax.tree.flatten(tree, is_leaf=divided.is_divided)
        pieces = jax.device_get([self._pieces(leaf) for leaf in leaves])
        return jax.tree.unflatten(structure, map(divided.joined, leaves, pieces))

    def split(self, leaf):
        sharding = NamedSharding(self._mesh(jax.devices()), _EXAMPLES)
        return jax.make_array_from_process_local_data(sharding, leaf)

    def abstract(self, tree, devices, *, split):
        mesh = self._mesh(devices)

        def shape(x):
            if split:
                whole = (len(devices) * x.shape[0], *x.shape[1:])
                return jax.ShapeDtypeStruct(whole, x.dtype, sharding=NamedSharding(mesh, _EXAMPLES))
            padding = divided.padding(x.shape, self.model_devices)
            padded = tuple(n + more for n, (_, more) in zip(x.shape, padding, strict=True))
            sharding = NamedSharding(mesh, divided.spec_of(x.shape))
            return _node(jax.ShapeDtypeStruct(padded, x.dtype, sharding=sharding), x.shape)

        return jax.tree.map(shape, tree)

    def _mesh(self, devices: Sequence[jax.Device]) -> Mesh:
        # On a TPU slice, devices of one host are not always neighbors.
        by_process = sorted(devices, key=lambda device: device.process_index)
        replicas = np.array(by_process).reshape(-1, self.model_devices)
        return Mesh(replicas, (AXIS_NAME, spread.MODEL_AXIS))

    def _pieces(self, leaf: Any) -> list[jax.Array]:
        """The parts of an array of the state on this process's first replica."""
        if not divided.is_divided(leaf):
            return [leaf.addressable_data(0)]
        return [leaf.array.addressable_data(i) for i in range(self.model_devices)]


def _node(array: Any, shape: tuple[int, ...]) -> Any:
    """An array of the state, which is split or not, as a node of a tree."""
    return array if divided.axis_of(shape) is None else divided.Divided(array, shape)


# How the examples of a batch are split: over all devices in order.
_EXAMPLES = P((AXIS_NAME, spread.MODEL_AXIS))


def backend(name: str = "pmap", model_devices: int = 1) -> Backend:
    """The backend of a name, 'pmap' or 'shard_map', with so many devices for each replica."""
    if model_devices > 1:
        return Spread(model_devices)
    return {"pmap": Pmap, "shard_map": ShardMap}[name]()


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), (AXIS_NAME,))


def _first_shards(tree: Tree) -> Tree:
    shards = jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))
    # Copied, since on a CPU it may be the device's own memory, which could then not be donated.
    return jax.tree.map(np.array, shards)


def replica_groups(
    field: str, size: int, num_devices: int, named: str = "devices"
) -> tuple[tuple[int, ...], ...]:
    """All replicas in groups of `size` neighbors; ValueError unless they come out even."""
    if num_devices % size:
        even = [str(n) for n in range(1, num_devices + 1) if num_devices % n == 0]
        raise ValueError(
            f"{field}={size} does not divide the {num_devices} {named}; "
            f"use {' or '.join(filter(None, (', '.join(even[:-1]), even[-1])))}"
        )
    return tuple(tuple(range(first, first + size)) for first in range(0, num_devices, size))


def check_batch_size(field: str, batch_size: int, parts: int, named: str) -> None:
    """Raises ValueError unless the batch can be split evenly into `parts`, which are `named`."""
    if batch_size % parts:
        below = batch_size // parts * parts
        near = f"{below} or {below + parts}" if below else f"{parts}"
        raise ValueError(f"{field}={batch_size} is not divisible by the {named}; use {near}")
