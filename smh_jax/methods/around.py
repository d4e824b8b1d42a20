"""A method around a method: the same variables, whose pools are changed before weights are made."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from smh_jax.manifest import Params
from smh_jax.methods.base import Method, Variables


@dataclasses.dataclass(frozen=True)
class Around(Method):
    """Makes the weights of changed variables, which are initialized, fitted and kept as they are.

    Attributes:
        inner: the method around which it is, which may be another one of this kind.
    """

    inner: Method

    @property
    def name(self) -> str:
        """The inner method's."""
        return self.inner.name

    @abc.abstractmethod
    def changed(self, variables: Variables) -> Variables:
        """The variables of which the inner method makes the weights; pure and differentiable."""

    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        return self.inner.init(key, params)

    def fit(self, params: Params) -> Variables:
        return self.inner.fit(params)

    def map_pools(self, function: Callable[[jax.Array], Any], variables: Variables) -> Variables:
        return self.inner.map_pools(function, variables)

    def materialize(self, variables: Variables) -> Params:
        return self.inner.materialize(self.changed(variables))

    def materialize_part(
        self, variables: Variables, first: int, last: int, zero: jax.Array
    ) -> dict[str, jax.Array]:
        return self.inner.materialize_part(self.changed(variables), first, last, zero)

    def held(self, variables: Variables, leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return self.inner.held(self.changed(variables), leaves)

    def at(self, progress: jax.Array | float) -> Method:
        return dataclasses.replace(self, inner=self.inner.at(progress))


def innermost(method: Method) -> Method:
    """The method inside of all that are around it; any other itself."""
    while isinstance(method, Around):
        method = method.inner
    return method


def unwrapped(method: Method, variables: Variables) -> tuple[Method, Variables]:
    """The innermost method, and the variables of which it makes the weights."""
    while isinstance(method, Around):
        method, variables = method.inner, method.changed(variables)
    return method, variables
