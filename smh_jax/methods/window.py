"""Structured Multi-Hashing of weights that fill a stretch of a larger matrix.

So one of several networks in one matrix is made alone, and a further one from a matrix that is
full already.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from smh_jax.methods import rectangles
from smh_jax.methods.base import Part, check_at_least, tile
from smh_jax.methods.smh import SMH


@dataclasses.dataclass(frozen=True)
class Window(SMH):
    """Weight i is entry `first + i`, row-major, of `W = U V`; behind the last comes the first one.

    The number of hash pairs is that of `SMH` at this target, with the sides of this matrix.

    Attributes:
        rows, columns: of the matrix; 0 for those of the smallest square that holds the weights.
        first: entry at which the weights begin.
    """

    rows: int = 0
    columns: int = 0
    first: int = 0

    name: ClassVar[str] = "smh_window"

    def __post_init__(self) -> None:
        for field in ("rows", "columns", "first"):
            check_at_least(field, getattr(self, field), 0)
        for field in ("layout", "blocks", "matrix", "matrix_size", "index"):
            default = getattr(SMH, field)
            if getattr(self, field) != default:
                raise ValueError(
                    f"{field}={getattr(self, field)!r} must be {default!r} for method {self.name!r}"
                )
        super().__post_init__()

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        smallest = rectangles.smallest_side(self.manifest.num_hashed, self.layout)
        return self.rows or smallest, self.columns or smallest

    @property
    def min_pool_size(self) -> int:
        """Elements of one hash pair."""
        return sum(self.matrix_shape)

    @property
    def block_weights(self) -> int:
        """Entries of the matrix."""
        rows, columns = self.matrix_shape
        return rows * columns

    def arrange(self, product: jax.Array) -> list[jax.Array]:
        numbers = (self.first + np.arange(self.manifest.num_hashed)) % product.size
        return tile(jnp.ravel(product)[numbers], self.manifest.hashed)

    def generate(self, pools: dict[str, jax.Array], part: Part | None = None) -> list[jax.Array]:
        # No more than the rows in which the weights lie.
        return self._part(pools, *(part or (0, len(self.manifest.hashed), 0)))
