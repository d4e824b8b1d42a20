"""A method whose pools are rounded, as a file at a precision will store them, before use."""

import dataclasses
import functools

import jax

from smh_jax.manifest import Params
from smh_jax.methods import rounding
from smh_jax.methods.base import Method, Variables, check_choice


@dataclasses.dataclass(frozen=True)
class Rounded(Method):
    """A method around a method: the same variables, weights made from rounded pools.

    Training through it makes a model fit for the precision at which it will be stored, one of
    `rounding.PRECISIONS` (quantization-aware training). The gradient passes straight through to
    the pools, which are kept, initialized and fitted as they are.
    """

    inner: Method
    precision: str

    @property
    def name(self) -> str:
        """The inner method's."""
        return self.inner.name

    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        return self.inner.init(key, params)

    def fit(self, params: Params) -> Variables:
        return self.inner.fit(params)

    def materialize(self, variables: Variables) -> Params:
        return self.inner.materialize(self._rounded(variables))

    def materialize_part(
        self, variables: Variables, first: int, last: int, zero: jax.Array
    ) -> dict[str, jax.Array]:
        return self.inner.materialize_part(self._rounded(variables), first, last, zero)

    def penalty(self, variables: Variables) -> jax.Array:
        return self.inner.penalty(variables)

    def _rounded(self, variables: Variables) -> Variables:
        round_pool = functools.partial(rounding.fake_quantize, precision=self.precision)
        return {**variables, "pools": jax.tree.map(round_pool, variables["pools"])}


def rounded(method: Method, precision: str) -> Method:
    """The method with pools that are rounded to a precision; itself for 'float32'.

    Raises:
        ValueError: for an unknown precision, or a method without pools.
    """
    check_choice("pool_precision", precision, rounding.PRECISIONS)
    if precision == "float32":
        return method
    if "pools" not in method.abstract_variables:
        raise ValueError(
            f"pool_precision={precision!r} must be 'float32' for method {method.name!r}, "
            "which has no pools"
        )
    return Rounded(method.manifest, method.target_size, method, precision)


def unrounded(method: Method) -> Method:
    """The method inside of a `Rounded` one; any other itself."""
    return method.inner if isinstance(method, Rounded) else method
