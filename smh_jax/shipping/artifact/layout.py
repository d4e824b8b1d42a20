"""How the leaves of a model's trees lie in a few flat tensors.

A file has one tensor for all leaves of a group and a dtype, one after the other, where one tensor
per leaf would cost more bytes of names than a compressed model can afford. The groups are those of
the variables (`pools`, `scales`, `stored`) and `model_state`; a tensor's name is `group/dtype`. The
rows' scales of quantized pools lie in `pools/row_scales`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from smh_jax.methods.rounding import INTEGERS, Quantized, num_rows

Tensors = dict[str, np.ndarray]
# Name, dtype and shape of a leaf.
Leaf = tuple[str, str, tuple[int, ...]]
# Dtypes of leaves that are used in another one: of pools only.
_STORED_DTYPES = ("bfloat16", *INTEGERS)
_ROW_SCALES = "row_scales"


def is_quantized(leaf: Any) -> bool:
    """Whether a leaf of pools is stored as integers."""
    return isinstance(leaf, Quantized)


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves of a tree in its order, by their paths with slashes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_quantized)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def pack(groups: Mapping[str, Any]) -> tuple[Tensors, dict[str, list[Leaf]]]:
    """The flat tensors of groups of trees, and the description of their leaves."""
    pieces: dict[str, list[np.ndarray]] = {}
    description: dict[str, list[Leaf]] = {}
    for group, tree in groups.items():
        description[group] = []
        for name, leaf in _named_leaves(tree):
            if is_quantized(leaf):
                values, dtype = leaf.values, leaf.precision
                pieces.setdefault(f"{group}/{_ROW_SCALES}", []).append(np.asarray(leaf.scales))
            else:
                values, dtype = leaf, leaf.dtype.name
            pieces.setdefault(f"{group}/{dtype}", []).append(np.ravel(values))
            description[group].append((name, dtype, tuple(leaf.shape)))
    return {name: np.concatenate(parts) for name, parts in pieces.items()}, description


def unpack(
    tensors: Tensors, description: Mapping[str, Sequence[Leaf]], groups: Mapping[str, Any]
) -> dict[str, Any]:
    """The groups of trees that `pack` took.

    Args:
        tensors, description: what `pack` gave.
        groups: trees of the same structure with leaves of the right shapes and dtypes; those of
            'pools' may be stored in fewer bits.

    Raises:
        ValueError: if the leaves described are others, or are not exactly what the tensors hold.
    """
    if set(description) != set(groups):
        raise ValueError(f"it holds {sorted(description)} where {sorted(groups)} are wanted")
    position = dict.fromkeys(tensors, 0)

    def take(tensor: str, size: int, dtype: str) -> np.ndarray:
        if tensor not in tensors or position[tensor] + size > tensors[tensor].size:
            raise ValueError(f"tensor {tensor} has fewer elements than its leaves")
        begin, position[tensor] = position[tensor], position[tensor] + size
        values = tensors[tensor]
        if values.ndim != 1 or values.dtype.name != dtype:
            raise ValueError(f"tensor {tensor} is {values.dtype} {values.shape}, not flat {dtype}")
        values = values[begin : begin + size]
        if not np.isfinite(values).all():
            raise ValueError(f"tensor {tensor} has numbers that are not finite")
        return values

    unpacked = {}
    for group, like in groups.items():
        wanted = _named_leaves(like)
        if len(description[group]) != len(wanted):
            raise ValueError(
                f"{group} has {len(description[group])} leaves where {len(wanted)} are wanted"
            )
        leaves = []
        for described, (wanted_name, leaf) in zip(description[group], wanted, strict=True):
            name, dtype, shape = described
            allowed = (leaf.dtype.name, *(_STORED_DTYPES if group == "pools" else ()))
            if (name, shape) != (wanted_name, tuple(leaf.shape)) or dtype not in allowed:
                raise ValueError(
                    f"{group} has {name} {dtype} {shape} "
                    f"where {wanted_name} {leaf.dtype.name} {tuple(leaf.shape)} is wanted"
                )
            size = math.prod(shape)
            if dtype in INTEGERS:
                count, kind = (size, "int8") if dtype == "int8" else (-(-size // 2), "uint8")
                values = take(f"{group}/{dtype}", count, kind)
                scales = take(f"{group}/{_ROW_SCALES}", num_rows(shape), "float32")
                leaves.append(Quantized(values, scales, shape, dtype))
            else:
                leaves.append(take(f"{group}/{dtype}", size, dtype).reshape(shape))
        unpacked[group] = jax.tree.unflatten(jax.tree.structure(like), leaves)
    for tensor, end in position.items():
        if end != tensors[tensor].size:
            raise ValueError(f"tensor {tensor} has more elements than its leaves")
    return unpacked
