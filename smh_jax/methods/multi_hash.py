"""Unstructured multi-hashing: each weight reduces K variables that K hash functions choose."""

import dataclasses
from collections.abc import Sequence
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
        return self.generate_part(pools, 0, len(self.manifest.hashed), 0)

    def generate_part(
        self, pools: jax.Array, first: int, last: int, zero: jax.Array | int
    ) -> list[jax.Array]:
        """See `PooledMethod.generate_part`."""
        tensors = self.manifest.hashed[first:last]
        offsets = self.manifest.offsets
        parts = _nested(cut(pools, [s for part in self.pool_sizes for s in part]), self.num_hashes)
        if self.per_layer:
            return [
                self._reduce(part, offsets[t.name] + zero, t.size).reshape(t.shape)
                for part, t in zip(parts[first:last], tensors, strict=True)
            ]
        count = sum(tensor.size for tensor in tensors)
        return tile(self._reduce(parts[0], offsets[tensors[0].name] + zero, count), tensors)

    def _reduce(self, pools: Sequence[jax.Array], first: jax.Array | int, count: int) -> jax.Array:
        """Weights `first` to `first + count - 1` from K pools."""
        total = None
        for k, pool in enumerate(pools):
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


def _nested(flat: Sequence[jax.Array], size: int) -> list[Sequence[jax.Array]]:
    return [flat[i : i + size] for i in range(0, len(flat), size)]


def hash_function(k: int, first: jax.Array | int, count: int, seed: int = 0) -> jax.Array:
    """The k-th hash of the indices `first` to `first + count - 1`: uint32, uniform on all values.

    Two rounds of MurmurHash3's finalizer (Appleby, public domain), keyed between them. Integer
    arithmetic only: the same on every machine.
    """
    indices = jnp.arange(count, dtype=jnp.uint32) + jnp.asarray(first).astype(jnp.uint32)
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
