"""Large arrays of a state, split evenly over the devices that share a replica.

Each is split along its longest axis, which is padded with zeros to a multiple of the devices.
"""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from smh_jax.methods import spread

# Elements of the smallest array that is worth splitting.
_LARGE = 2**14


@flax.struct.dataclass
class Divided:
    """An array that is split over devices.

    Attributes:
        array: with the padding.
        shape: without it.
    """

    array: jax.Array
    shape: tuple[int, ...] = flax.struct.field(pytree_node=False)


def is_divided(value: Any) -> bool:
    """Whether a node of a tree is split."""
    return isinstance(value, Divided)


def axis_of(shape: tuple[int, ...]) -> int | None:
    """The axis along which an array of a state is split; None for one that is not."""
    return int(np.argmax(shape)) if np.prod(shape) >= _LARGE else None


def spec_of(shape: tuple[int, ...]) -> P:
    """Which axis of an array lies along which axis of the mesh."""
    axis = axis_of(shape)
    return P() if axis is None else P(*axis * [None], spread.MODEL_AXIS)


def padding(shape: tuple[int, ...], parts: int) -> list[tuple[int, int]]:
    """Of every axis, in the form of `np.pad`; an array that is not split has none."""
    axis = axis_of(shape)
    return [(0, -size % parts if i == axis else 0) for i, size in enumerate(shape)]


def divide(tree: Any, parts: int) -> Any:
    """Inside of a step: the arrays as they leave it."""

    def divided(leaf: jax.Array) -> Any:
        axis = axis_of(leaf.shape)
        if axis is None:
            return spread.whole(leaf)
        return Divided(spread.along(jnp.pad(leaf, padding(leaf.shape, parts)), axis), leaf.shape)

    return jax.tree.map(divided, tree)


def undivide(tree: Any) -> Any:
    """Inside of a step: the arrays of the shapes that it knows, which are still split."""

    def cut(leaf: Any) -> Any:
        if not is_divided(leaf):
            return leaf
        axis = axis_of(leaf.shape)
        return spread.along(_unpadded(spread.along(leaf.array, axis), leaf.shape), axis)

    return jax.tree.map(cut, tree, is_leaf=is_divided)


def joined(leaf: Any, pieces: Sequence[np.ndarray]) -> np.ndarray:
    """On the host: an array of the shape that a step knows, of its parts, in memory of its own."""
    if not is_divided(leaf):
        return np.array(pieces[0])
    return _unpadded(np.concatenate(pieces, axis_of(leaf.shape)), leaf.shape)


def _unpadded(array: Any, shape: tuple[int, ...]) -> Any:
    return array[tuple(map(slice, shape))]
