"""What the decompositions share: every hashed tensor is a network of trained factors."""

import abc
import dataclasses
import itertools
import math
from functools import cached_property

import jax
import jax.numpy as jnp

from smh_jax.methods import distributions, ranks
from smh_jax.methods.base import PooledMethod, tie
from smh_jax.methods.tensor_network import Network

Factors = tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class Decomposition(PooledMethod):
    """Each tensor is contracted from its own factors, which are trained from scratch.

    The ranks are chosen under the global budget by `ranks.choose`. A tensor of fewer than two axes,
    or whose factors would cost as much as itself, is its own only factor.
    """

    @abc.abstractmethod
    def decompose(self, shape: tuple[int, ...]) -> Network | None:
        """The network at rank 1 of a kernel [*spatial, in, out], or None if it has none."""

    @cached_property
    def _rank_one(self) -> tuple[Network, ...]:
        """Of each hashed tensor in order of creation."""
        return tuple(
            (self.decompose(tensor.shape) if len(tensor.shape) > 1 else None)
            or Network.whole(tensor.shape)
            for tensor in self.manifest.hashed
        )

    @property
    def min_pool_size(self) -> int:
        """Elements of the factors at rank 1."""
        return sum(ranks.smallest(network).num_variables for network in self._rank_one)

    @cached_property
    def networks(self) -> dict[str, Network]:
        """The chosen network of each hashed tensor, by name."""
        names = (tensor.name for tensor in self.manifest.hashed)
        chosen = ranks.choose(self._rank_one, self.pool_budget)
        return dict(zip(names, chosen, strict=True))

    def init_pools(self, key: jax.Array) -> dict[str, Factors]:
        """The factors of each tensor by its name; their shapes are those of its network."""
        networks = self.networks

        def draw(key: jax.Array) -> dict[str, Factors]:
            # One draw that is cut: as many draws as factors would be as many programs to compile.
            sizes = [math.prod(shape) for n in networks.values() for shape in n.shapes]
            flat = distributions.sample(self.pool_distribution, key, (sum(sizes),))
            pieces = iter(jnp.split(flat, list(itertools.accumulate(sizes))[:-1]))
            return {
                name: tuple(network.stddev * next(pieces).reshape(s) for s in network.shapes)
                for name, network in networks.items()
            }

        return jax.jit(draw)(key)

    def generate(self, pools: dict[str, Factors]) -> list[jax.Array]:
        """See `PooledMethod.generate`."""
        return [
            self.networks[tensor.name].contract(pools[tensor.name]).reshape(tensor.shape)
            for tensor in self.manifest.hashed
        ]

    def generate_part(
        self, pools: dict[str, Factors], first: int, last: int, zero: jax.Array
    ) -> list[jax.Array]:
        """See `PooledMethod.generate_part`."""
        weights = []
        for tensor in self.manifest.hashed[first:last]:
            factors = list(pools[tensor.name])
            if len(factors) > 1:
                smallest = min(range(len(factors)), key=lambda i: factors[i].size)
                factors[smallest] = tie(factors[smallest], zero)
            weight = self.networks[tensor.name].contract(tuple(factors))
            weights.append(weight.reshape(tensor.shape))
        return weights
