"""Structured Multi-Hashing: all hashed weights in one matrix that is a product of two thin ones."""

import dataclasses
import math
from functools import cached_property
from typing import ClassVar

import jax
import jax.numpy as jnp

from smh_jax.methods import distributions
from smh_jax.methods.base import PooledMethod, tile


@dataclasses.dataclass(frozen=True)
class SMH(PooledMethod):
    """`W = U V` with `U: [n, M]`, `V: [M, n]`, `n = ceil(sqrt(N))` (paper, equation 4).

    Weight i, counted over all hashed tensors in order of creation and row-major within each, is
    `W.ravel()[i]`. The number of hash pairs M is the largest whose pools fit the target beside the
    stored variables and the scales, which loses less than 2n variables of it.
    """

    name: ClassVar[str] = "smh"

    @cached_property
    def matrix_size(self) -> int:
        """Side n of the square matrix that holds all hashed weights."""
        return math.isqrt(self.manifest.num_hashed - 1) + 1

    @property
    def num_hash_pairs(self) -> int:
        """Columns of U and rows of V: the paper's M."""
        return self.pool_budget // (2 * self.matrix_size)

    @property
    def min_pool_size(self) -> int:
        """Elements of one hash pair."""
        return 2 * self.matrix_size

    def init_pools(self, key: jax.Array) -> dict[str, jax.Array]:
        """`u` [n, M] and `v` [M, n], with standard deviation M^(-1/4) (paper, section 3.3)."""
        n, pairs = self.matrix_size, self.num_hash_pairs
        u_key, v_key = jax.random.split(key)
        stddev = pairs**-0.25
        return {
            "u": stddev * distributions.sample(self.pool_distribution, u_key, (n, pairs)),
            "v": stddev * distributions.sample(self.pool_distribution, v_key, (pairs, n)),
        }

    def generate(self, pools: dict[str, jax.Array]) -> list[jax.Array]:
        """See `PooledMethod.generate`."""
        return tile(jnp.ravel(pools["u"] @ pools["v"]), self.manifest.hashed)
