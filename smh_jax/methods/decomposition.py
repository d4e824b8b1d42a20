"""What the decompositions share: every hashed tensor is a network of trained factors."""

import abc
import dataclasses
import math
import string
from collections.abc import Mapping
from functools import cached_property

import jax

from smh_jax.methods import distributions, ranks
from smh_jax.methods.base import Part, PooledMethod, cut, tie
from smh_jax.methods.tensor_network import Network

Factors = tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class Decomposition(PooledMethod):
    """Each tensor is contracted from its own factors, which are trained from scratch.

    The ranks are chosen under the global budget by `ranks.choose`. A tensor of fewer than two axes,
    or whose factors would cost as much as itself, is its own only factor.
    """

    @abc.abstractmethod
    def decompose(self, axes: str, sizes: Mapping[str, int]) -> Network | None:
        """The network at rank 1 of a kernel [*spatial, in, out], or None if it has none.

        Args:
            axes: the spatial indices, 'ab' of a 2-D convolution.
            sizes: of these, of the inputs 'y' and of the outputs 'z', in this order.
        """

    @cached_property
    def _smallest(self) -> tuple[Network, ...]:
        """At rank 1, of each hashed tensor in order of creation."""
        networks = []
        for tensor in self.manifest.hashed:
            network, shape = None, tensor.shape
            if len(shape) > 1:
                axes = string.ascii_lowercase[: len(shape) - 2]
                network = self.decompose(axes, dict(zip(f"{axes}yz", shape, strict=True)))
            networks.append(ranks.cheaper(network or Network.whole(shape)))
        return tuple(networks)

    @property
    def min_pool_size(self) -> int:
        """Elements of the factors at rank 1."""
        return sum(network.num_variables for network in self._smallest)

    @cached_property
    def networks(self) -> dict[str, Network]:
        """The chosen network of each hashed tensor, by name."""
        names = (tensor.name for tensor in self.manifest.hashed)
        chosen = ranks.choose(self._smallest, self.pool_budget)
        return dict(zip(names, chosen, strict=True))

    def init_pools(self, key: jax.Array) -> dict[str, Factors]:
        """The factors of each tensor by its name; their shapes are those of its network."""
        networks = self.networks

        def draw(key: jax.Array) -> dict[str, Factors]:
            # One draw that is cut: as many draws as factors would be as many programs to compile.
            sizes = [math.prod(shape) for n in networks.values() for shape in n.shapes]
            flat = distributions.sample(self.pool_distribution, key, (sum(sizes),))
            pieces = iter(cut(flat, sizes))
            return {
                name: tuple(network.stddev * next(pieces).reshape(s) for s in network.shapes)
                for name, network in networks.items()
            }

        return jax.jit(draw)(key)

    def generate(self, pools: dict[str, Factors], part: Part | None = None) -> list[jax.Array]:
        first, last, zero = part or (0, None, None)
        weights = []
        for tensor in self.manifest.hashed[first:last]:
            factors = list(pools[tensor.name])
            if zero is not None and len(factors) > 1:
                smallest = min(range(len(factors)), key=lambda i: factors[i].size)
                factors[smallest] = tie(factors[smallest], zero)
            weight = self.networks[tensor.name].contract(factors)
            weights.append(weight.reshape(tensor.shape))
        return weights
