"""Unstructured multi-hashing: each weight reduces K variables that K hash functions choose."""

import dataclasses
from functools import cached_property
from typing import ClassVar

import jax
import jax.numpy as jnp

from smh_jax.methods import distributions
from smh_jax.methods.base import PooledMethod, check_at_least, check_choice, cut, tile


@dataclasses.dataclass(frozen=True)
class MultiHash(PooledMethod):
    """`w[i] = reduce over k of pool_k[h_k(i)]` (paper, section 3, equation 1).

    The K hash functions are independent, pseudo-random and computed where they are needed: no
    index is stored. The pools are the parts of one vector of the whole budget.

    Attributes:
        num_hashes: K.
        reducer: 'sum' or 'product' of the K variables.
        signs: whether each variable is taken with a pseudo-random sign (Chen et al. 2015).
        per_layer: whether each tensor has pools of its own, as in HashedNets (Chen et al. 2015),
            with a share of the budget in proportion to its size; otherwise all weights share them.
        hash_seed: chooses among families of hash functions.
    """

    num_hashes: int = 1
    reducer: str = "sum"
    signs: bool = False
    per_layer: bool = False
    hash_seed: int = 0

    name: ClassVar[str] = "multi_hash"

    def __post_init__(self) -> None:
        check_at_least("num_hashes", self.num_hashes, 1)
        check_choice("reducer", self.reducer, ("sum", "product"))
        check_at_least("hash_seed", self.hash_seed, 0)
        super().__post_init__()

    @property
    def min_pool_size(self) -> int:
        """One variable for each pool."""
        return self.num_hashes * (len(self.manifest.hashed) if self.per_layer else 1)

    @cached_property
    def pool_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the K pools of each part: one part for all weights, or one per tensor."""
        if self.per_layer:
            parts = shares(
                self.pool_budget, [t.size for t in self.manifest.hashed], self.num_hashes
            )
        else:
            parts = [self.pool_budget]
        return tuple(
            tuple((size + k) // self.num_hashes for k in range(self.num_hashes)) for size in parts
        )

    def init_pools(self, key: jax.Array) -> jax.Array:
        """All pools, one after the other, [pool budget]."""
        stddev = self.num_hashes**-0.5 if self.reducer == "sum" else 1.0
        return stddev * distributions.sample(self.pool_distribution, key, (self.pool_budget,))

    def generate(self, pools: jax.Array) -> list[jax.Array]:
        """See `PooledMethod.generate`."""
        hashed = self.manifest.hashed
        sizes = [size for part in self.pool_sizes for size in part]
        separate = iter(cut(pools, sizes))
        if not self.per_layer:
            return tile(self._reduce(separate, 0, self.manifest.num_hashed), hashed)
        offsets = self.manifest.offsets
        return [self._reduce(separate, offsets[t.name], t.size).reshape(t.shape) for t in hashed]

    def _reduce(self, pools, first: int, count: int) -> jax.Array:
        """Weights `first` to `first + count - 1` from the next K of the pools."""
        total = None
        for k in range(self.num_hashes):
            pool = next(pools)
            hashes = hash_function(k, first, count, self.hash_seed)
            values = pool.at[hashes % jnp.uint32(pool.size)].get(mode="promise_in_bounds")
            if self.signs:
                # The remainder uses the low bits most: the sign is a hash of its own.
                flips = hash_function(k + self.num_hashes, first, count, self.hash_seed)
                values = jnp.where(flips >> 31 == 0, values, -values)
            if total is None:
                total = values
            else:
                total = total + values if self.reducer == "sum" else total * values
        return total


def hash_function(k: int, first: int, count: int, seed: int = 0) -> jax.Array:
    """The k-th hash of the indices `first` to `first + count - 1`: uint32, uniform on all values.

    Two rounds of MurmurHash3's finalizer (Appleby, public domain), keyed between them. Integer
    arithmetic only: the same on every machine.
    """
    indices = jnp.arange(count, dtype=jnp.uint32) + jnp.uint32(first)
    key = _mix_int(_mix_int(seed + 0x9E3779B9) ^ (k * 0x85EBCA6B + 1))
    return _mix(_mix(indices ^ jnp.uint32(key)) + jnp.uint32(_mix_int(key ^ 0x27D4EB2F)))


def _mix(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _mix_int(x: int) -> int:
    """`_mix` of a Python integer, modulo 2^32."""
    x &= 0xFFFFFFFF
    x = (x ^ (x >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    x = (x ^ (x >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return x ^ (x >> 16)


def shares(total: int, weights: list[int], at_least: int) -> list[int]:
    """Splits a whole number in proportion to the weights, with a least share for each.

    Args:
        total: at least `at_least * len(weights)`.
        weights: of the shares.
        at_least: the least that each gets.

    Returns:
        Whole numbers whose sum is `total`.
    """
    rest = total - at_least * len(weights)
    cumulative, done, parts = 0, 0, []
    for weight in weights:
        cumulative += weight
        # Rounding the cumulative sums makes the parts add up exactly.
        reached = rest * cumulative // sum(weights)
        parts.append(at_least + reached - done)
        done = reached
    return parts
