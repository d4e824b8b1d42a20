"""Unstructured multi-hashing: each weight reduces K variables that K hash functions choose."""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from smh_jax.methods import distributions
from smh_jax.methods.base import Part, PooledMethod, check_at_least, check_choice, cut, tile


@dataclasses.dataclass(frozen=True)
class MultiHash(PooledMethod):
    """`w[i] = reduce over k of pool_k[h_k(i)]` (paper, section 3, equation 1).

    The K hash functions are independent, pseudo-random and computed where they are needed: no
    index is stored. The pools are the pieces of one vector of the whole budget.

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

    @functools.cached_property
    def pool_sizes(self) -> list[list[int]]:
        """Sizes of the K pools for all weights, [1, K], or of those of each tensor."""
        budgets = [self.pool_budget]
        if self.per_layer:
            sizes = [tensor.size for tensor in self.manifest.hashed]
            budgets = shares(self.pool_budget, sizes, self.num_hashes)
        hashes = range(self.num_hashes)
        return [[(size + k) // self.num_hashes for k in hashes] for size in budgets]

    def init_pools(self, key: jax.Array) -> jax.Array:
        """All pools, one after the other, [pool budget]."""
        stddev = self.num_hashes**-0.5 if self.reducer == "sum" else 1.0
        return stddev * distributions.sample(self.pool_distribution, key, (self.pool_budget,))

    def generate(self, pools: jax.Array, part: Part | None = None) -> list[jax.Array]:
        first, last, zero = part or (0, len(self.manifest.hashed), 0)
        tensors = self.manifest.hashed[first:last]
        offsets = self.manifest.offsets
        pieces = cut(pools, list(itertools.chain(*self.pool_sizes)))
        if self.per_layer:
            weights = (
                self._reduce(pieces[self.num_hashes * i :], offsets[t.name] + zero, t.size)
                for i, t in enumerate(tensors, first)
            )
            return [w.reshape(t.shape) for w, t in zip(weights, tensors, strict=True)]
        count = sum(tensor.size for tensor in tensors)
        return tile(self._reduce(pieces, offsets[tensors[0].name] + zero, count), tensors)

    def _reduce(self, pools: Sequence[jax.Array], first: jax.Array | int, count: int) -> jax.Array:
        """Weights `first` to `first + count - 1` from the first K pools."""

        def variables(k: int) -> jax.Array:
            pool = pools[k]
            hashes = hash_function(k, first, count, self.hash_seed)
            values = pool.at[hashes % jnp.uint32(pool.size)].get(mode="promise_in_bounds")
            if self.signs:
                # The remainder uses the low bits most: the sign is a hash of its own.
                flips = hash_function(k + self.num_hashes, first, count, self.hash_seed)
                values = jnp.where(flips >> 31 == 0, values, -values)
            return values

        combine = operator.add if self.reducer == "sum" else operator.mul
        return functools.reduce(combine, map(variables, range(self.num_hashes)))


def hash_function(k: int, first: jax.Array | int, count: int, seed: int = 0) -> jax.Array:
    """The k-th hash of the indices `first` to `first + count - 1`: uint32, uniform on all values.

    Two rounds of MurmurHash3's finalizer (Appleby, public domain), keyed between them. Integer
    arithmetic only: the same on every machine.
    """
    indices = jnp.arange(count, dtype=jnp.uint32) + jnp.asarray(first).astype(jnp.uint32)
    key = _mix_int(_mix_int(seed + 0x9E3779B9) ^ (k * 0x85EBCA6B + 1))
    return _mix(_mix(indices ^ jnp.uint32(key)) + jnp.uint32(_mix_int(key ^ 0x27D4EB2F)))


def _mix(x: Any) -> Any:
    """The finalizer of an array of uint32."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _mix_int(x: int) -> int:
    """`_mix` of a Python integer, modulo 2^32."""
    return int(_mix(np.array([x & 0xFFFFFFFF], np.uint32))[0])


def shares(total: int, weights: list[int], at_least: int) -> list[int]:
    """Splits a whole number in proportion to the weights, with a least share for each.

    The total is at least `at_least * len(weights)`; the shares are whole and add up to it.
    """
    rest, cumulative = total - at_least * len(weights), itertools.accumulate(weights, initial=0)
    # Rounding the cumulative sums makes the shares add up exactly.
    ends = [rest * end // sum(weights) for end in cumulative]
    return [at_least + end - start for start, end in itertools.pairwise(ends)]
