"""A method whose pools are rounded, as a file at a precision will store them, before use."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from smh_jax.manifest import Params
from smh_jax.methods import entropy, rounding
from smh_jax.methods.base import Method, Variables


@dataclasses.dataclass(frozen=True)
class Rounded(Method):
    """A method around a method: the same variables, weights made from rounded pools.

    Training through it makes a model fit for the precision at which it will be stored
    (quantization-aware training). The gradient passes straight through to the pools, which are
    kept, initialized and fitted as they are.

    Attributes:
        inner: the method around which it is.
        precision: of the pools, one of `rounding.PRECISIONS`.
        rate_weight: in the loss of the mean number of bits that an entropy coder needs for an
            element of the pools (Oktay et al. 2019, equation 4).
    """

    inner: Method
    precision: str
    rate_weight: float = 0.0

    @property
    def name(self) -> str:
        """The inner method's."""
        return self.inner.name

    def __repr__(self) -> str:
        return f"Rounded({self.inner!r}, {self.precision!r})"

    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        return self.inner.init(key, params)

    def fit(self, params: Params) -> Variables:
        return self.inner.fit(params)

    def map_pools(self, function: Callable[[jax.Array], Any], variables: Variables) -> Variables:
        return self.inner.map_pools(function, variables)

    def materialize(self, variables: Variables) -> Params:
        return self.inner.materialize(self._rounded(variables))

    def materialize_part(
        self, variables: Variables, first: int, last: int, zero: jax.Array
    ) -> dict[str, jax.Array]:
        return self.inner.materialize_part(self._rounded(variables), first, last, zero)

    def penalty(self, variables: Variables) -> jax.Array:
        penalty = self.inner.penalty(variables)
        if not self.rate_weight:
            return penalty
        size = sum(pool.size for pool in self.pools(variables))
        return penalty + self.rate_weight * self.coded_bits(variables) / size

    @property
    def is_coded(self) -> bool:
        """Whether the pools are meant for an entropy coder."""
        return rounding.parse(self.precision)[0] == "coded"

    def coded_bits(self, variables: Variables) -> jax.Array:
        """Bits of the pools in a file at precision 'coded', a scalar; with a useful gradient."""
        _, step = rounding.parse(self.precision)
        return sum(entropy.coded_bits(pool, step) for pool in self.pools(variables))

    def _rounded(self, variables: Variables) -> Variables:
        round_pool = functools.partial(rounding.fake_quantize, precision=self.precision)
        return self.inner.map_pools(round_pool, variables)


def rounded(method: Method, precision: str, rate_weight: float = 0.0) -> Method:
    """The method with pools that are rounded to a precision; itself for 'float32'.

    Raises:
        ValueError: for an unknown precision, a weight below 0, or one of what is not coded.
    """
    kind, _ = rounding.parse(precision, "pool_precision")
    if not rate_weight >= 0:
        raise ValueError(f"rate_weight={rate_weight} must be at least 0")
    if rate_weight and kind != "coded":
        raise ValueError(
            f"rate_weight={rate_weight} goes with pool_precision='coded', not {precision!r}"
        )
    if precision == "float32":
        return method
    return Rounded(method.manifest, method.target_size, method, precision, rate_weight)


def unrounded(method: Method) -> Method:
    """The method inside of a `Rounded` one; any other itself."""
    return method.inner if isinstance(method, Rounded) else method
