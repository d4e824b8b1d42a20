"""A run of entries of a product of two matrices, from the few rows and columns that they need."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

# A run that is made of whole rows has more entries than asked for. Where it is more by this share,
# its first and its last rows are computed separately.
_MAX_WASTE = 0.125


def entries(
    multiply: Callable[[jax.Array, jax.Array], jax.Array],
    u: jax.Array,
    v: jax.Array,
    block: int,
    first: int,
    last: int,
    zero: jax.Array | int,
    kronecker: tuple[int, int, int] | None = None,
) -> jax.Array:
    """Entries `first` to `last - 1`, row-major, of one block's matrix.

    Args:
        multiply: the matrix product.
        u, v: [blocks, rows, M] and [blocks, M, columns].
        block, first, last: which block, and the range of its entries.
        zero: an int32 scalar that is 0, on which every product depends; or 0 itself.
        kronecker: columns of the left factor matrices, rows and columns of the right ones, where
            the matrix is a sum of Kronecker products of them; None for the matrix product.
    """
    # In either layout an entry's position counts through (i, k, j, l), where (i, j) is a row of U
    # and (k, l) a column of V.
    num_j, num_k, num_l = kronecker or (1, v.shape[2], 1)
    per_i, per_k = num_k * num_j * num_l, num_j * num_l
    i, end_i = first // per_i, -(-last // per_i)
    k, end_k = 0, num_k
    if end_i - i == 1:
        k, end_k = (first - i * per_i) // per_k, -(-(last - i * per_i) // per_k)
    elif (end_i - i) * per_i > (1 + _MAX_WASTE) * (last - first):
        inner = range(-(-first // per_i) * per_i, last + 1, per_i)
        cuts = itertools.pairwise(sorted({first, inner[0], inner[-1], last}))
        return jnp.concatenate(
            [entries(multiply, u, v, block, *cut, zero, kronecker) for cut in cuts]
        )
    # The block's index depends on `zero`, too: a slice along a whole axis has only one start.
    start, size = (block + zero, i * num_j + zero, 0), (1, (end_i - i) * num_j, u.shape[2])
    rows = jax.lax.dynamic_slice(u, start, size)
    start, size = (block + zero, 0, k * num_l + zero), (1, v.shape[1], (end_k - k) * num_l)
    columns = jax.lax.dynamic_slice(v, start, size)
    product = multiply(rows[0], columns[0])
    product = product.reshape(end_i - i, num_j, end_k - k, num_l).transpose(0, 2, 1, 3)
    skipped = first - i * per_i - k * per_k
    return jnp.ravel(product)[skipped : skipped + last - first]
