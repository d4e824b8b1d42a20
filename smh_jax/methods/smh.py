"""Structured Multi-Hashing: all hashed weights in one matrix that is a product of two thin ones."""

import dataclasses
import itertools
import math
from functools import cached_property
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from smh_jax.config.randomness import purpose_key
from smh_jax.manifest import Params
from smh_jax.methods import distributions, fitting, rectangles, spread
from smh_jax.methods.base import Part, PooledMethod, Variables, check_at_least, check_choice, tile
from smh_jax.methods.matrix_entries import entries


@dataclasses.dataclass(frozen=True)
class SMH(PooledMethod):
    """`W = U V` with `U: [n, M]`, `V: [M, n]`, `n = ceil(sqrt(N))` (paper, equation 4).

    Weight i, counted over all hashed tensors in order of creation and row-major within each, is
    `W.ravel()[i]`. The number of hash pairs M is the largest whose pools fit the target besides the
    stored variables and the scales.

    Attributes:
        layout: 'matmul', or 'kronecker': a sum of M Kronecker products of `[d, d]` factors with
            `d = ceil(N^(1/4))`: the matrix product with n = d * d, its entries permuted.
        blocks: number G of independent pairs of pools, each for an equal part of the weights and
            with a matrix of side `ceil(sqrt(N / G))`: the same relative rank at `1 / sqrt(G)` of
            the arithmetic. Beyond 1, `U: [G, n, M]` and `V: [G, M, n]`.
        matrix: 'square' (the paper) loses up to `2 G n` variables of the target to rounding;
            'rectangular' keeps M and makes the matrix longer than wide until less than `G M` are
            lost; 'auto' is square where that loses at most 1% of the target.
        matrix_size: side n of the square matrix; 0 for the smallest that holds the weights.
        index: what happens to weights beyond the matrix's entries, where `matrix_size` leaves any:
            'basic' refuses, 'cyclic' begins again with the first entry, 'padding' makes them
            `padding_value` before they are scaled.
        product_dtype: 'float32', or 'bfloat16', in which the product takes half as long to write
            and to cut into tensors; for models that compute in bfloat16, which round their weights
            to it in any case. Pools and scales stay in float32. Another runtime may round single
            weights to the other side.
    """

    layout: str = "matmul"
    blocks: int = 1
    matrix: str = "auto"
    matrix_size: int = 0
    index: str = "basic"
    padding_value: float = 0.0
    product_dtype: str = "float32"

    name: ClassVar[str] = "smh"
    # The entry at which the weights begin.
    first: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_choice("layout", self.layout, ("matmul", "kronecker"))
        check_choice("matrix", self.matrix, ("auto", "square", "rectangular"))
        check_choice("index", self.index, ("basic", "cyclic", "padding"))
        check_choice("product_dtype", self.product_dtype, ("float32", "bfloat16"))
        check_at_least("blocks", self.blocks, 1)
        check_at_least("matrix_size", self.matrix_size, 0)
        if self.matrix == "rectangular" and self.matrix_size:
            raise ValueError(
                f"matrix_size={self.matrix_size} is the side of a square matrix: leave it out with "
                "matrix='rectangular'"
            )
        super().__post_init__()

    @cached_property
    def block_weights(self) -> int:
        """Weights that each block generates; the last one may have some to spare."""
        return -(-self.manifest.num_hashed // self.blocks)

    @cached_property
    def square_size(self) -> int:
        """Side n of a block's matrix where it is square."""
        smallest = rectangles.smallest_side(self.block_weights, self.layout)
        rows = rectangles.smallest_side(self.manifest.num_hashed, "matmul")
        if self.blocks > rows:
            raise ValueError(
                f"blocks={self.blocks} must be at most {rows}, the rows of the matrix "
                f"of {self.manifest.num_hashed} weights"
            )
        if not self.matrix_size:
            return smallest
        if self.layout == "kronecker" and math.isqrt(self.matrix_size) ** 2 != self.matrix_size:
            raise ValueError(
                f"matrix_size={self.matrix_size} must be a square number d * d "
                "for layout 'kronecker'"
            )
        if self.index == "basic" and self.matrix_size < smallest:
            raise ValueError(
                f"matrix_size={self.matrix_size} gives {self.matrix_size**2} entries for "
                f"{self.block_weights} weights; use at least {smallest}, "
                "or index 'cyclic' or 'padding'"
            )
        return self.matrix_size

    @property
    def num_hash_pairs(self) -> int:
        """Columns of U and rows of V: the paper's M."""
        return self.pool_budget // self.min_pool_size

    @property
    def min_pool_size(self) -> int:
        """Elements of one hash pair of every block."""
        return 2 * self.square_size * self.blocks

    @cached_property
    def matrix_shape(self) -> tuple[int, int]:
        """Rows and columns of a block's matrix."""
        lost = self.pool_budget % self.min_pool_size
        is_square = self.matrix == "auto" and lost <= 0.01 * self.target_size
        if is_square or self.matrix == "square" or self.matrix_size:
            return self.square_size, self.square_size
        sides = self.pool_budget // (self.num_hash_pairs * self.blocks)
        return rectangles.fill(self.block_weights, sides, self.layout)

    def init_pools(self, key: jax.Array) -> dict[str, jax.Array]:
        """`u` [n, M] and `v` [M, n], with standard deviation M^(-1/4) (paper, section 3.3)."""
        rows, columns = self.matrix_shape
        pairs, pools = self.num_hash_pairs, {}
        for name, shape in (("u", (rows, pairs)), ("v", (pairs, columns))):
            shape = shape if self.blocks == 1 else (self.blocks, *shape)
            sample = distributions.sample(self.pool_distribution, purpose_key(key, name), shape)
            pools[name] = pairs**-0.25 * sample
        return pools

    def placed(self, variables: Variables) -> Variables:
        # Any layer may need any rows of U, and of the columns of V each device makes its own.
        pools = variables["pools"]
        u, v = spread.whole(pools["u"]), spread.along(pools["v"], -1)
        # As parts take it, so that they take nothing but slices of it.
        u, v = (pool.reshape(self.blocks, *pool.shape[-2:]) for pool in (u, v))
        return {**variables, "pools": {"u": u, "v": v}}

    def generate(self, pools: dict[str, jax.Array], part: Part | None = None) -> list[jax.Array]:
        if part is not None:
            return self._part(pools, *part)
        return self.arrange(self._product(pools["u"], pools["v"]))

    def arrange(self, product: jax.Array) -> list[jax.Array]:
        """The unscaled weights in the product of the pools, `[n, n]` or `[blocks, n, n]`."""
        rows, columns = self.matrix_shape
        product = product.reshape(self.blocks, rows, columns)
        if self.layout == "kronecker":
            # Of entry ((i, j), (k, l)) = sum_m A_m[i, j] B_m[k, l] to row (i, k), column (j, l).
            factors = (*rectangles.factor(rows), *rectangles.factor(columns))
            product = product.reshape(self.blocks, *factors).transpose(0, 1, 3, 2, 4)
        flat = jnp.ravel(product)
        if self.blocks > 1:
            # A block's spare entries lie between its weights and the next block's. To cut them off
            # of all blocks at once, as rows, takes TPUs four times as long.
            each = jnp.split(product, self.blocks)
            flat = jnp.concatenate([jnp.ravel(block)[: self.block_weights] for block in each])
        missing = self.manifest.num_hashed - flat.size
        if missing > 0 and self.index == "cyclic":
            flat = jnp.tile(flat, -(-self.manifest.num_hashed // flat.size))
        elif missing > 0:
            flat = jnp.pad(flat, (0, missing), constant_values=self.padding_value)
        return tile(flat, self.manifest.hashed)

    def fit(self, params: Params) -> Variables:
        """As `smh_jax.methods.fitting` says."""
        if self.modifier != "none":
            raise ValueError(
                f"modifier={self.modifier!r}: only weights without a modifier can be fitted"
            )
        leaves = self.manifest.leaves(params)
        shape = (self.blocks, *self.matrix_shape)
        numbers = jnp.arange(math.prod(shape), dtype=jnp.int32)
        entries = np.concatenate([np.ravel(x) for x in self.arrange(numbers)])
        if self.index == "padding":
            entries[numbers.size :] = -1
        # Of every weight: its value in units of its constant, its importance and its scale.
        weights, importance, groups, first = [], [], [], 0
        for index, tensor in enumerate(self.manifest.hashed):
            unscaled = np.asarray(leaves[tensor.name], np.float64) / (tensor.initial.stddev or 1.0)
            scales = self.scale_sizes[index] if self.scale == "learnable" else 1
            weights.append(unscaled.ravel())
            importance.append(np.full(tensor.size, 1 / (np.mean(unscaled**2) or 1.0)))
            groups.append(first + np.arange(tensor.size) % scales)
            first += scales
        solution = fitting.fit(
            *map(np.concatenate, (weights, importance, [entries], groups)),
            shape=shape,
            rank=self.num_hash_pairs,
            learn_scales=self.scale == "learnable",
        )
        u, v = (x[0] if self.blocks == 1 else x for x in (solution.u, solution.v))
        variables: Variables = {
            "pools": {"u": jnp.asarray(u, jnp.float32), "v": jnp.asarray(v, jnp.float32)},
            "stored": {t.name: jnp.asarray(leaves[t.name]) for t in self.manifest.stored},
        }
        if self.scale == "learnable":
            variables["scales"] = jnp.asarray(solution.scales, jnp.float32)
        return variables

    def _part(
        self, pools: dict[str, jax.Array], first: int, last: int, zero: jax.Array | int
    ) -> list[jax.Array]:
        """From the rows of U that the tensors lie in."""
        tensors, offsets = self.manifest.hashed[first:last], self.manifest.offsets
        position = begin = self.first + offsets[tensors[0].name]
        end = position + sum(tensor.size for tensor in tensors)
        rows, columns = self.matrix_shape
        per_block = min(self.block_weights, rows * columns)
        num_entries = self.blocks * per_block
        u, v = (pools[key].reshape(self.blocks, *pools[key].shape[-2:]) for key in "uv")
        kronecker = None
        if self.layout == "kronecker":
            kronecker = (rectangles.factor(rows)[1], *rectangles.factor(columns))
        pieces = []
        while position < end:
            if position >= num_entries and self.index == "padding":
                dtype = jnp.promote_types(u.dtype, jnp.float32)
                piece = jnp.full(end - position, self.padding_value, dtype)
            else:
                block, entry = divmod(position % num_entries, per_block)
                count = min(end - position, per_block - entry)
                piece = entries(self._product, u, v, block, entry, entry + count, zero, kronecker)
            pieces.append((position, piece))
            position += piece.size

        def between(begin: int, end: int) -> jax.Array:
            # Only tensors that reach into several pieces are put together.
            parts = [
                piece[max(begin - first, 0) : end - first]
                for first, piece in pieces
                if first < end and begin < first + piece.size
            ]
            return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

        ends = itertools.accumulate((tensor.size for tensor in tensors), initial=begin)
        return [
            between(begin, end).reshape(tensor.shape)
            for tensor, (begin, end) in zip(tensors, itertools.pairwise(ends), strict=True)
        ]

    def _product(self, u: jax.Array, v: jax.Array) -> jax.Array:
        # Products of bfloat16 factors add up in float32.
        dtype = jnp.promote_types(u.dtype, jnp.float32)
        product = jnp.matmul(u, v, preferred_element_type=dtype)
        if self.product_dtype == "bfloat16":
            product = product.astype(jnp.bfloat16)
        # Of devices that share a model, each makes some of the columns.
        return spread.whole(spread.along(product, -1))
