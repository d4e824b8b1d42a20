"""A matrix product that is cut into tensors, each multiplied by its scale, and its gradient.

Automatic differentiation would keep the whole product for the scales' gradients and read it once
more, and beside it the gradient of every weight. But row r of the gradient with respect to U,
multiplied with row r of U, is the sum over that row of gradient times weight:

    sum_j dW[r, j] W[r, j] = sum_j dW[r, j] (U V)[r, j] = (dW V^T)[r] . U[r]

So where a tensor fills whole rows, its scale's gradient costs nothing beside that of U, and these
rows need no scale but that of their row of U. Only what lies in rows that tensors share is scaled
by itself, kept and read again.
"""

import itertools
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def scaled_product(
    precision: str, sizes: tuple[int, ...], u: jax.Array, v: jax.Array, scales: jax.Array
) -> list[jax.Array]:
    """Cuts `u @ v`, row-major, into vectors of these sizes and multiplies each by its scale.

    It has a gradient, but no forward-mode derivative.

    Args:
        precision: of the product, as `jnp.matmul` takes it.
        sizes: of the vectors, together at most the product's size.
        u: [rows, M].
        v: [M, columns].
        scales: [number of vectors].
    """
    return _forward(precision, sizes, u, v, scales)[0]


def _forward(precision, sizes, u, v, scales):
    flat = jnp.ravel(jnp.matmul(u, v, precision=precision))
    pieces = jnp.split(flat, list(itertools.accumulate(sizes)))[: len(sizes)]
    kept = [
        [piece[part] for part in parts]
        for piece, parts in zip(pieces, _parts_of_shared_rows(sizes, v.shape[1]), strict=True)
    ]
    weights = [piece * scales[i] for i, piece in enumerate(pieces)]
    return weights, (u, v, scales, kept)


def _backward(precision, sizes, residuals, gradients):
    u, v, scales, kept = residuals
    columns = v.shape[1]
    rows, parts = _whole_rows(sizes, columns), _parts_of_shared_rows(sizes, columns)
    # Rows that one vector fills are scaled on the side of U, the others entry by entry.
    pieces, to_scales = [], []
    for index, gradient in enumerate(gradients):
        position, total = 0, jnp.zeros((), scales.dtype)
        for part, weight in zip(parts[index], kept[index], strict=True):
            if part.start > position:
                pieces.append(gradient[position : part.start])
            pieces.append(gradient[part] * scales[index])
            total += jnp.sum(gradient[part] * weight)
            position = part.stop
        pieces.append(gradient[position:])
        to_scales.append(total)
    pieces.append(jnp.zeros(u.shape[0] * columns - sum(sizes), u.dtype))
    matrix = jnp.concatenate(pieces).reshape(u.shape[0], columns)
    # Of each row the vector that fills it, or one beyond the last.
    owners = np.full(u.shape[0], len(sizes))
    for index, (first, last) in enumerate(rows):
        owners[first:last] = index
    row_scales = jnp.append(scales, 1.0)[owners][:, jnp.newaxis]
    to_u = jnp.matmul(matrix, v.T, precision=precision)
    to_v = jnp.matmul((row_scales * u).T, matrix, precision=precision)
    sums = jnp.zeros(len(sizes) + 1, scales.dtype).at[owners].add(jnp.sum(to_u * u, axis=1))
    return row_scales * to_u, to_v, jnp.stack(to_scales) + sums[:-1]


scaled_product.defvjp(_forward, _backward)


def _whole_rows(sizes: Sequence[int], columns: int) -> list[tuple[int, int]]:
    """The rows [first, last) that each vector fills; first = last where there is none."""
    ends = list(itertools.accumulate(sizes, initial=0))
    return [
        (-(-begin // columns), max(-(-begin // columns), end // columns))
        for begin, end in itertools.pairwise(ends)
    ]


def _within(sizes: Sequence[int], rows: tuple[int, int], index: int, columns: int) -> slice:
    """Where a range of rows lies in a vector."""
    begin = sum(sizes[:index])
    return slice(rows[0] * columns - begin, rows[1] * columns - begin)


def _parts_of_shared_rows(sizes: Sequence[int], columns: int) -> list[list[slice]]:
    """Of each vector the parts outside of the rows that it fills."""
    parts = []
    for index, (rows, size) in enumerate(zip(_whole_rows(sizes, columns), sizes, strict=True)):
        filled = _within(sizes, rows, index, columns)
        if rows[0] == rows[1]:
            parts.append([slice(0, size)])
        else:
            edges = [slice(0, filled.start), slice(filled.stop, size)]
            parts.append([edge for edge in edges if edge.stop > edge.start])
    return parts
