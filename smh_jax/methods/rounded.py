"""Training for the precision at which pools will be stored."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from smh_jax.methods import entropy, rounding
from smh_jax.methods.around import Around
from smh_jax.methods.base import Method, Variables


@dataclasses.dataclass(frozen=True)
class Rounded(Around):
    """A method around a method: the same variables, weights made from rounded pools.

    Training through it makes a model fit for the precision at which it will be stored
    (quantization-aware training). The gradient passes straight through to the pools.

    Attributes:
        inner: the method around which it is.
        precision: of the pools, one of `rounding.PRECISIONS`.
        rate_weight: in the loss of the mean number of bits that an entropy coder needs for an
            element of the pools (Oktay et al. 2019, equation 4).
    """

    precision: str
    rate_weight: float = 0.0

    def __repr__(self) -> str:
        return f"Rounded({self.inner!r}, {self.precision!r})"

    def changed(self, variables: Variables) -> Variables:
        round_pool = functools.partial(rounding.fake_quantize, precision=self.precision)
        return self.inner.map_pools(round_pool, variables)

    def penalty(self, variables: Variables) -> jax.Array:
        penalty = self.inner.penalty(variables)
        if not self.rate_weight:
            return penalty
        size = sum(pool.size for pool in self.pools(variables))
        return penalty + self.rate_weight * self.coded_bits(variables) / size

    def measures(self, variables: Variables) -> dict[str, jax.Array]:
        """With `pool_bytes`, what an entropy coder will need, if the pools are meant for one."""
        measures = self.inner.measures(variables)
        if rounding.parse(self.precision)[0] != "coded":
            return measures
        num_bytes = jnp.round(self.coded_bits(variables) / 8).astype(jnp.int32)
        return {**measures, "pool_bytes": num_bytes}

    def coded_bits(self, variables: Variables) -> jax.Array:
        """Bits of the pools in a file at precision 'coded', a scalar; with a useful gradient."""
        _, step = rounding.parse(self.precision)
        return sum(entropy.coded_bits(pool, step) for pool in self.pools(variables))


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
