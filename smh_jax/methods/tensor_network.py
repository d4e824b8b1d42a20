"""A tensor as a contraction of factors, in the notation of einsum."""

import dataclasses
import math
import string
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Network:
    """Factors whose contraction is a tensor. An index that the output lacks is a bond.

    Attributes:
        output: the tensor's indices, row-major.
        factors: each factor's indices.
        sizes: of every index; that of a bond is its rank.
    """

    output: str
    factors: tuple[str, ...]
    sizes: Mapping[str, int]

    @classmethod
    def of_rank_one(cls, open_sizes: Mapping[str, int], factors: tuple[str, ...]) -> "Network":
        """The network with all bonds at rank 1; `open_sizes` are those of the output, in order."""
        sizes = {**dict.fromkeys("".join(factors), 1), **open_sizes}
        return cls("".join(open_sizes), factors, sizes)

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> "Network":
        """No decomposition: the tensor itself is the only factor."""
        output = string.ascii_lowercase[: len(shape)]
        return cls(output, (output,), dict(zip(output, shape, strict=True)))

    @property
    def bonds(self) -> tuple[str, ...]:
        """The contracted indices, in order of appearance."""
        return tuple(i for i in dict.fromkeys("".join(self.factors)) if i not in self.output)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the factors."""
        return tuple(tuple(self.sizes[i] for i in factor) for factor in self.factors)

    @property
    def num_variables(self) -> int:
        """Elements of all factors."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def num_elements(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.sizes[i] for i in self.output)

    @property
    def stddev(self) -> float:
        """The factors' standard deviation that gives the tensor unit variance.

        An element is a sum over the bonds of products of one element of each of d factors: of
        R uncorrelated terms of variance stddev^(2 d), R being the product of the ranks.
        """
        terms = math.prod(self.sizes[bond] for bond in self.bonds)
        return terms ** (-0.5 / len(self.factors))

    def rank_limit(self, bond: str) -> int:
        """The rank beyond which the bond adds nothing: the smaller side of its factors' matrices.

        Each factor is seen as a matrix of the bond's index by all of its others.
        """
        factors = [factor.replace(bond, "") for factor in self.factors if bond in factor]
        return min(math.prod(self.sizes[i] for i in others) for others in factors)

    def contract(self, factors: Sequence[jax.Array]) -> jax.Array:
        """The tensor, in the shape of the output's indices."""
        return jnp.einsum(f"{','.join(self.factors)}->{self.output}", *factors)


def balanced_factors(number: int) -> tuple[int, ...]:
    """At most three factors above 1 of a number, as equal as its primes allow, descending.

    The primes go, largest first, to the smallest factor so far: 16 = 4 2 2, 32 = 4 4 2, 64 = 4 4 4,
    as in Tensor Ring Nets (Wang et al. 2018, arXiv:1802.09052).
    """
    primes, divisor = [], 2
    while number > 1:
        if number % divisor == 0:
            primes.append(divisor)
            number //= divisor
        else:
            divisor = divisor + 1 if divisor**2 < number else number
    factors = [1, 1, 1]
    for prime in reversed(primes):
        factors[factors.index(min(factors))] *= prime
    return tuple(sorted((f for f in factors if f > 1), reverse=True))
