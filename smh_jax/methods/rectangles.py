"""Shapes of matrices that hold a number of weights and spend a number of variables on their sides.

In the layout 'kronecker' a side is the size of a factor matrix and so the product of two numbers,
neither of which may be more than twice the other.
"""

import functools
import math


def smallest_side(num_weights: int, layout: str) -> int:
    """Side of the smallest square matrix that holds the weights: d * d for Kronecker."""
    side = math.isqrt(num_weights - 1) + 1
    if layout == "kronecker":
        return (math.isqrt(side - 1) + 1) ** 2
    return side


def factor(side: int) -> tuple[int, int]:
    """The two factors of a Kronecker side that are closest to each other, the larger first.

    Raises:
        ValueError: if they are more than a factor of two apart.
    """
    small = _smaller_factor(side)
    if side > 2 * small**2:
        raise ValueError(f"{side} is not a product of two numbers within a factor of two")
    return side // small, small


@functools.cache
def _smaller_factor(side: int) -> int:
    return next(small for small in range(math.isqrt(side), 0, -1) if side % small == 0)


def _is_side(side: int, layout: str) -> bool:
    return layout == "matmul" or side <= 2 * _smaller_factor(side) ** 2


@functools.cache
def fill(num_weights: int, sides: int, layout: str) -> tuple[int, int]:
    """Rows and columns, rows >= columns, that hold the weights and whose sum is at most `sides`.

    `sides` is no less than twice `smallest_side`. Of the shapes with the largest sum, it is the one
    with the fewest entries to spare.
    """
    # The smaller root of columns * (sides - columns) = num_weights.
    root = (sides - math.isqrt(max(0, sides * sides - 4 * num_weights))) // 2
    best, best_shape = (0, 0), (0, 0)
    for columns in range(max(1, root - 1), sides // 2 + 1):
        if not _is_side(columns, layout):
            continue
        rows = sides - columns
        while rows > columns and not _is_side(rows, layout):
            rows -= 1
        if rows * columns >= num_weights and (rows + columns, -rows * columns) > best:
            best, best_shape = (rows + columns, -rows * columns), (rows, columns)
    return best_shape
