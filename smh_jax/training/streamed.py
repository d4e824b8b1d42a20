"""Training that never holds all weights: each large one is made where it is used, and made again.

The model is traced with its weights as inputs. An equation that takes a large weight makes it from
the method's variables and keeps the variables for the backward pass, which makes the weight once
more and at once adds what its gradient gives to the variables' one. So neither the model nor the
method takes part in it, nor does the step: to it, the variables are the weights.
"""

import dataclasses
import functools
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

    def squared_norm(
        self, variables: Variables, params: Variables, names: Sequence[str]
    ) -> jax.Array:
        if "scales" in params:
            params = {**params, "scales": jax.lax.stop_gradient(params["scales"])}
        layers = _Layers(innermost(self), params)
        weights = layers.weights()

        def of_tensor(name: str) -> jax.Array:
            (square,) = layers.computed([weights[name]], lambda now: [squared_norm(now)])
            return square

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
        layers = _Layers(self.method, collections["params"])
        weights = self.method.manifest.tree(layers.weights())
        leaves = jax.tree.leaves(weights, is_leaf=_is_later)
        results = jaxprs.evaluate(program, leaves, layers.rule)
        return jax.tree.unflatten(jax.tree.structure(like), layers.computed(results, list))


def of(model: nn.Module, method: Method) -> tuple[Streamed, Unmade]:
    """What a step is given in place of a model and a method, so that it streams the weights."""
    unmade = Unmade(method.manifest, method.target_size, method)
    return Streamed(model, innermost(method)), unmade


# What is computed with variables and operands; it refers to no other array.
_Computation = Callable[[Variables, list[Any]], list[jax.Array]]


@dataclasses.dataclass(frozen=True)
class _Later:
    """A value that follows from variables alone; it is computed wherever it is used."""

    of: Callable[[Variables], jax.Array]


def _is_later(value: Any) -> bool:
    return isinstance(value, _Later)


def _now(variables: Variables, values: list[Any]) -> list[Any]:
    return [value.of(variables) if _is_later(value) else value for value in values]


class _Layers:
    """The layers of a trace, which hand the variables on from each to the next."""

    def __init__(self, method: Method, variables: Variables) -> None:
        self._method = method
        self._variables = method.placed(variables)

    def weights(self) -> dict[str, Any]:
        """All tensors by name: the small ones, and how the large ones are made."""
        manifest = self._method.manifest
        least = _SMALL * manifest.num_weights
        weights: dict[str, Any] = {
            name: value
            if value.size < least
            else _Later(lambda variables, name=name: spread.whole(variables["stored"][name]))
            for name, value in self._variables["stored"].items()
        }

        def made(first: int, last: int, variables: Variables) -> list[jax.Array]:
            part = self._method.materialize_part(variables, first, last, np.int32(0))
            return [part[tensor.name] for tensor in manifest.hashed[first:last]]

        numbered = enumerate(manifest.hashed)
        for is_small, run in itertools.groupby(numbered, lambda pair: pair[1].size < least):
            indices, tensors = zip(*run, strict=True)
            if is_small:
                run_of = functools.partial(made, indices[0], indices[-1] + 1)
                values = self._layer(lambda v, _, run_of=run_of: run_of(v), [])
            else:
                values = [_Later(lambda v, i=i: made(i, i + 1, v)[0]) for i in indices]
            weights |= {tensor.name: x for tensor, x in zip(tensors, values, strict=True)}
        return weights

    def rule(self, equation: JaxprEqn, operands: list[Any]) -> Sequence[Any]:
        """As `jaxprs.evaluate` takes one."""
        later = [_is_later(operand) for operand in operands]
        if not any(later):
            return jaxprs.bind(equation, operands)
        # What has a derivative of its own, or is computed twice already, stays one.
        if equation.primitive.name == "jit":
            return jaxprs.evaluate(jaxprs.called_program(equation), operands, self.rule)
        if later != [not isinstance(atom, Literal) for atom in equation.invars]:
            return self.computed(operands, lambda now: jaxprs.bind(equation, now))

        def result(index: int, variables: Variables) -> jax.Array:
            return jaxprs.bind(equation, _now(variables, operands))[index]

        return [_Later(functools.partial(result, i)) for i in range(len(equation.outvars))]

    def computed(
        self, operands: list[Any], function: Callable[[list[Any]], list[jax.Array]]
    ) -> list[jax.Array]:
        """One layer: what a function makes of operands."""
        present = [operand for operand in operands if not _is_later(operand)]

        def computation(variables: Variables, present: list[Any]) -> list[jax.Array]:
            others = iter(present)
            return function([x.of(variables) if _is_later(x) else next(others) for x in operands])

        return self._layer(computation, present)

    def _layer(self, computation: _Computation, present: list[Any]) -> list[jax.Array]:
        self._variables, results = _layer(computation, self._variables, present)
        return results


# Left to JAX, every layer would have a gradient of the size of all variables, most of it zeros, and
# XLA would keep many of them until it adds them up.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _layer(
    computation: _Computation, variables: Variables, operands: list[Any]
) -> tuple[Variables, list[jax.Array]]:
    """The variables, for the next layer, and the results of this one.

    The backward pass computes it once more, and adds its gradient to that of the next ones.
    """
    return variables, computation(variables, operands)


def _forward(computation: _Computation, variables: Variables, operands: list[Any]) -> Any:
    return _layer(computation, variables, operands), (variables, operands)


def _backward(computation: _Computation, inputs: Any, gradients: Any) -> Any:
    variables, structure = jax.tree.flatten(inputs[0])
    cut, whole = _uses(computation, *inputs)
    used = sorted(cut | whole)
    # Nothing begins before the next layer's gradients are there: XLA would make the weights once
    # and keep them, and sum the gradients of all layers over the devices at once.
    totals = jax.tree.leaves(gradients[0])
    now, operands, sums, of_results = _at_once(
        ([variables[i] for i in used], inputs[1], [totals[i] for i in used], gradients[1])
    )

    def of_used(values: list[jax.Array], operands: list[Any]) -> list[jax.Array]:
        by_index = dict(zip(used, values, strict=True))
        leaves = [by_index.get(i, variable) for i, variable in enumerate(variables)]
        return computation(structure.unflatten(leaves), operands)

    _, pull_back = jax.vjp(of_used, now, operands)
    refs = [
        jax.ad.GradValue() if i in whole else jax.new_ref(x)
        for i, x in zip(used, sums, strict=True)
    ]
    values = jax.tree.map(lambda _: jax.ad.GradValue(), operands)
    found, of_operands = pull_back.with_refs(refs, values)(of_results)
    for i, total, ref, gradient in zip(used, sums, refs, found, strict=True):
        totals[i] = total + gradient if i in whole else jax.freeze(ref)
    return structure.unflatten(totals), of_operands


_layer.defvjp(_forward, _backward)


def _uses(
    computation: _Computation, variables: Variables, operands: list[Any]
) -> tuple[set[int], set[int]]:
    """Of which of the variables slices are taken, and which are used otherwise.

    The gradient of a slice can be added to a part of a sum.
    """
    program = jax.make_jaxpr(computation)(variables, operands).jaxpr
    index = {v: i for i, v in enumerate(program.invars[: len(jax.tree.leaves(variables))])}
    cut: set[int] = set()
    whole = {index[x] for x in program.outvars if not isinstance(x, Literal) and x in index}
    for equation in program.eqns:
        found = {index[x] for x in equation.invars if not isinstance(x, Literal) and x in index}
        (cut if equation.primitive.name == "dynamic_slice" else whole).update(found)
    return cut, whole


def _at_once(tree: Any) -> Any:
    """The same, of which no real number is there before the others are."""
    leaves, structure = jax.tree.flatten(tree)
    is_real = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]
    real = iter(jax.lax.optimization_barrier([*itertools.compress(leaves, is_real)]))
    leaves = [next(real) if r else leaf for leaf, r in zip(leaves, is_real, strict=True)]
    return jax.tree.unflatten(structure, leaves)
