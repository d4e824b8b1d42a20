"""How the leaves of a model's trees lie in a few flat tensors.

A file has one tensor for all leaves of a group and a dtype, one after the other, where one tensor
per leaf would cost more bytes of names than a compressed model can afford. The groups are those of
the variables (`pools`, `scales`, `stored`) and `model_state`; a tensor's name is `group/dtype`. The
rows' scales of quantized leaves lie in `group/row_scales`.

Integers of fewer than four bits, or of a pool's own range, are coded: those of all groups are in
`coded/stream`, with their frequencies in `coded/tables`. Numbers of all groups in 8 bits lie in
`coded/linear8` and `coded/log8`. Where a leaf has one scale it lies in `coded/steps`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np

from smh_jax.methods.rounding import INTEGERS, SMALL, Quantized, num_rows
from smh_jax.shipping.artifact import entropy_coder

Tensors = dict[str, np.ndarray]
# Name, dtype and shape of a leaf.
Leaf = tuple[str, str, tuple[int, ...]]
# Dtypes of leaves that are used in another one.
_STORED_DTYPES = ("bfloat16", *INTEGERS, *SMALL)
_CODED = ("int3", "int2", "ternary", "coded")
_STREAM, _TABLES = "coded/stream", "coded/tables"


def is_quantized(leaf: Any) -> bool:
    """Whether a leaf is stored as integers."""
    return isinstance(leaf, Quantized)


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves of a tree in its order, by their paths with slashes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_quantized)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def pack(groups: Mapping[str, Any]) -> tuple[Tensors, dict[str, list[Leaf]]]:
    """The flat tensors of groups of trees, and the description of their leaves."""
    pieces: dict[str, list[np.ndarray]] = {}
    description: dict[str, list[Leaf]] = {}
    coded = []
    for group, tree in groups.items():
        description[group] = []
        for name, leaf in _named_leaves(tree):
            values, dtype = (
                (leaf, leaf.dtype.name) if not is_quantized(leaf) else (leaf.values, leaf.precision)
            )
            if is_quantized(leaf):
                scales, scale_dtype = _scales(group, dtype)
                pieces.setdefault(scales, []).append(np.asarray(leaf.scales, scale_dtype))
            if dtype in _CODED:
                coded.append(np.asarray(values))
            else:
                pieces.setdefault(_tensor(group, dtype), []).append(np.ravel(values))
            description[group].append((name, dtype, tuple(leaf.shape)))
    if coded:
        pieces[_STREAM], pieces[_TABLES] = ([array] for array in entropy_coder.encode(coded))
    return {name: np.concatenate(parts) for name, parts in pieces.items()}, description


def _tensor(group: str, dtype: str) -> str:
    """The tensor of leaves of a group and a dtype."""
    return f"coded/{dtype}" if dtype in SMALL else f"{group}/{dtype}"


def _scales(group: str, precision: str) -> tuple[str, Any]:
    """Name and dtype of the tensor of the scales of leaves of a group at a precision."""
    if precision == "coded" or precision in SMALL:
        return "coded/steps", ml_dtypes.bfloat16
    return f"{group}/row_scales", np.float32


def unpack(
    tensors: Tensors, description: Mapping[str, Sequence[Leaf]], groups: Mapping[str, Any]
) -> dict[str, Any]:
    """The groups of trees that `pack` took.

    Args:
        tensors, description: what `pack` gave.
        groups: trees of the same structure with leaves of the right shapes and dtypes, which may
            be stored in fewer bits.

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

    unpacked: dict[str, Any] = {}
    decoder = None
    if _STREAM in tensors and _TABLES in tensors:
        words, tables = (take(*x) for x in (
            (_STREAM, tensors[_STREAM].size, "uint32"), (_TABLES, tensors[_TABLES].size, "uint8")
        ))  # fmt: skip
        decoder = entropy_coder.Decoder(words, tables)
    for group, like in groups.items():
        wanted = _named_leaves(like)
        if len(description[group]) != len(wanted):
            raise ValueError(
                f"{group} has {len(description[group])} leaves where {len(wanted)} are wanted"
            )
        leaves = []
        for described, (wanted_name, leaf) in zip(description[group], wanted, strict=True):
            name, dtype, shape = described
            allowed = (leaf.dtype.name, *_STORED_DTYPES)
            if (name, shape) != (wanted_name, tuple(leaf.shape)) or dtype not in allowed:
                raise ValueError(
                    f"{group} has {name} {dtype} {shape} "
                    f"where {wanted_name} {leaf.dtype.name} {tuple(leaf.shape)} is wanted"
                )
            size = math.prod(shape)
            if dtype in (*INTEGERS, *SMALL):
                values = _integers(dtype, size, group, take, decoder)
                tensor, scale_dtype = _scales(group, dtype)
                scales = take(tensor, num_rows(shape, dtype), np.dtype(scale_dtype).name)
                leaves.append(Quantized(values, scales.astype(np.float32), shape, dtype))
            else:
                leaves.append(take(f"{group}/{dtype}", size, dtype).reshape(shape))
        unpacked[group] = jax.tree.unflatten(jax.tree.structure(like), leaves)
    if decoder is not None:
        decoder.finish()
    for tensor, end in position.items():
        if end != tensors[tensor].size:
            raise ValueError(f"tensor {tensor} has more elements than its leaves")
    return unpacked


def _integers(
    dtype: str,
    size: int,
    group: str,
    take: Callable[[str, int, str], np.ndarray],
    decoder: entropy_coder.Decoder | None,
) -> np.ndarray:
    """The integers of a leaf, as `Quantized` has them."""
    if dtype == "int4":
        return take(f"{group}/{dtype}", -(-size // 2), "uint8")
    if dtype not in _CODED:
        return take(_tensor(group, dtype), size, "int8")
    if decoder is None:
        raise ValueError(f"tensors {_STREAM} and {_TABLES} are missing")
    return decoder.take(size)
