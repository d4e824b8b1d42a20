"""Training that never holds all weights: each large one is made where it is used, and made again.

The model is traced with its weights as inputs. An equation that takes a large weight makes it from
the method's variables and keeps the variables for the backward pass, which makes the weight once
more and turns its gradient into that of the variables at once. So neither the model nor the method
takes part in it, nor does the step: to it, the variables are the weights.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from smh_jax.methods import Method, Variables, innermost, spread, squared_norm, unwrapped
from smh_jax.methods.around import Around
from smh_jax.models import jaxprs

# Tensors of a smaller share of all weights are made together at the beginning, and kept.
_SMALL = 1e-3


@dataclasses.dataclass(frozen=True)
class Unmade(Around):
    """A method around a method whose weights are the variables that a `Streamed` model takes."""

    def changed(self, variables: Variables) -> Variables:
        return unwrapped(self.inner, variables)[1]

    def materialize(self, variables: Variables) -> Variables:
        return self.changed(variables)

    def squared_norm(self, params: Variables, names: Sequence[str]) -> jax.Array:
        weights = _weights(innermost(self), params)

        def of_tensor(name: str) -> jax.Array:
            return jax.checkpoint(lambda: squared_norm([_now(weights[name])]))()

        return sum(map(of_tensor, names), jnp.float32(0))

    def penalty(self, variables: Variables) -> jax.Array:
        return self.inner.penalty(variables)


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A model that makes its weights itself: its params are a method's variables.

    It has of a Linen module what a step calls of one.

    Attributes:
        model: the model.
        method: around which there is no other one.
    """

    model: nn.Module
    method: Method

    def apply(self, collections: dict[str, Any], inputs: jax.Array, **kwargs: Any) -> Any:
        """As the model's own `apply`; the examples are split over the devices that share it."""
        state = {name: tree for name, tree in collections.items() if name != "params"}
        inputs = spread.along(inputs, 0)

        def outputs(params: Any) -> Any:
            return self.model.apply({"params": params, **state}, inputs, **kwargs)

        tensors = self.method.manifest.tensors
        shapes = {t.name: jax.ShapeDtypeStruct(t.shape, t.dtype) for t in tensors}
        abstract_params = self.method.manifest.tree(shapes)
        program, like = jax.make_jaxpr(outputs, return_shape=True)(abstract_params)
        weights = _weights(self.method, collections["params"])
        leaves = jax.tree.leaves(self.method.manifest.tree(weights), is_leaf=_is_later)
        results = [_now(result) for result in jaxprs.evaluate(program, leaves, _rule)]
        return jax.tree.unflatten(jax.tree.structure(like), results)


def of(model: nn.Module, method: Method) -> tuple[Streamed, Unmade]:
    """What a step is given in place of a model and a method, so that it streams the weights."""
    unmade = Unmade(method.manifest, method.target_size, method)
    return Streamed(model, innermost(method)), unmade


@dataclasses.dataclass(frozen=True)
class _Later:
    """A value that follows from variables alone; it is computed wherever it is used."""

    compute: Callable[[], jax.Array]


def _is_later(value: Any) -> bool:
    return isinstance(value, _Later)


def _now(value: Any) -> Any:
    return value.compute() if _is_later(value) else value


def _weights(method: Method, variables: Variables) -> dict[str, Any]:
    """All tensors by name: the small ones, and how the large ones are made."""
    manifest, variables = method.manifest, method.placed(variables)
    least = _SMALL * manifest.num_weights
    weights: dict[str, Any] = {
        name: value if value.size < least else _Later(lambda value=value: spread.whole(value))
        for name, value in variables["stored"].items()
    }

    def made(first: int, last: int) -> dict[str, jax.Array]:
        return method.materialize_part(variables, first, last, np.int32(0))

    numbered = enumerate(manifest.hashed)
    for is_small, run in itertools.groupby(numbered, lambda pair: pair[1].size < least):
        indices, tensors = zip(*run, strict=True)
        if is_small:
            weights |= made(indices[0], indices[-1] + 1)
        else:
            for index, tensor in zip(indices, tensors, strict=True):
                name = tensor.name
                weights[name] = _Later(lambda i=index, name=name: made(i, i + 1)[name])
    return weights


def _rule(equation: JaxprEqn, operands: list[Any]) -> Sequence[Any]:
    later = [_is_later(operand) for operand in operands]
    if not any(later):
        return jaxprs.bind(equation, operands)
    # What has a derivative of its own, or is computed twice already, stays one.
    if equation.primitive.name == "jit":
        return jaxprs.evaluate(jaxprs.called_program(equation), operands, _rule)

    def results(*present: Any) -> list[Any]:
        values = iter(present)
        now = [_now(x) if _is_later(x) else next(values) for x in operands]
        return jaxprs.bind(equation, _in_step(now))

    if later == [not isinstance(atom, Literal) for atom in equation.invars]:
        literals = [operand for operand in operands if not _is_later(operand)]
        return [_Later(lambda i=i: results(*literals)[i]) for i in range(len(equation.outvars))]
    return jax.checkpoint(results)(*(x for x in operands if not _is_later(x)))


def _in_step(operands: list[Any]) -> list[Any]:
    """The operands of a layer, of which none has its gradient before the others have theirs.

    Left to itself, XLA sums the gradients of all weights over the devices at once: for that it
    would keep all of them.
    """
    is_real = [jnp.issubdtype(jnp.result_type(operand), jnp.inexact) for operand in operands]
    real = iter(jax.lax.optimization_barrier([*itertools.compress(operands, is_real)]))
    return [next(real) if r else operand for operand, r in zip(operands, is_real, strict=True)]
