"""Inference that generates the weights of a few layers at a time and never holds all of them.

The model is traced with its weights as inputs, and the program of the trace is run again with each
weight generated where it is first used. So neither the model nor the method takes part in it.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from smh_jax.manifest import Tensor
from smh_jax.methods import Method, Variables
from smh_jax.models import jaxprs
from smh_jax.training.forward import OURS, Call, outputs


def predict(
    model: Any, method: Method, at_once: int | None = None, call: Call = OURS
) -> Callable[..., Any]:
    """The model's forward pass, a pure function to be jitted.

    It is called with the variables, the model's other collections (batch statistics) and the inputs
    of the call, such as images [batch, height, width, channels].
    Its outputs, such as logits [batch, classes], are those of `model.apply` on
    `method.materialize(variables)`, but for rounding. Its memory is that of the variables, of the
    weights that are generated at once, of the largest layer's weights and of the activations. A
    tensor that several layers share is kept from the first to the last of them.

    Args:
        model: any Flax Linen module, or what has its `apply`, such as `Artifact.module`.
        method: that generates its weights.
        at_once: consecutive tensors are generated together up to this many elements, which is
            faster than one by one; None takes the largest tensor's size, 0 generates one by one.
        call: how the model is called; `model(inputs, train=False)` unless said otherwise.
    """
    tensors = method.manifest.hashed
    if at_once is None:
        at_once = max((tensor.size for tensor in tensors), default=0)
    groups = list(_groups(tensors, at_once))
    abstract_params = method.manifest.tree(
        {t.name: jax.ShapeDtypeStruct(t.shape, t.dtype) for t in method.manifest.tensors}
    )
    names = jax.tree.leaves(method.manifest.tree({t.name: t.name for t in method.manifest.tensors}))
    trace = jax.make_jaxpr(functools.partial(outputs, model, call), return_shape=True)

    def function(variables: Variables, model_state: dict[str, Any], *inputs: jax.Array) -> Any:
        program, like = trace(abstract_params, model_state, *inputs)
        clock = _Clock(inputs)
        weights: dict[str, Any] = dict(variables["stored"])
        for first, last in groups:
            part = functools.partial(method.materialize_part, variables, first, last)
            names_of_part = [tensor.name for tensor in tensors[first:last]]
            weights |= _later(lambda part=part: part(clock.zero()), names_of_part)
        leaves = [*(weights[name] for name in names), *jax.tree.leaves((model_state, inputs))]
        results = map(_now, _evaluate(program, leaves, clock))
        return jax.tree.unflatten(jax.tree.structure(like), results)

    return function


def _groups(tensors: Sequence[Tensor], at_once: int) -> Iterator[tuple[int, int]]:
    """Ranges [first, last) of consecutive tensors that have at most `at_once` elements together."""
    first, size = 0, 0
    for index, tensor in enumerate(tensors):
        if index > first and size + tensor.size > at_once:
            yield first, index
            first, size = index, 0
        size += tensor.size
    if tensors:
        yield first, len(tensors)


class _Later:
    """A value that follows from generated weights alone; it is computed when it is first needed."""

    def __init__(self, compute: Callable[[], Any]):
        self.now = functools.cache(compute)


def _later(compute: Callable[[], Any], keys: Iterable[Any]) -> dict[Any, _Later]:
    """The items, by key, of what is computed when the first of them is needed."""
    together = functools.cache(compute)
    return {key: _Later(lambda key=key: together()[key]) for key in keys}


def _now(value: Any) -> Any:
    return value.now() if isinstance(value, _Later) else value


class _Clock:
    """Tells how far the forward pass has come, in a way that a compiler has to respect.

    Left to itself XLA schedules the generation of many layers ahead of their use (an optimization
    barrier does not stop it on CPU). What is generated is therefore made to depend on the result
    of the last layer.
    """

    def __init__(self, inputs: Sequence[Any]):
        self._latest: jax.Array | None = None
        self.tick(inputs)

    def tick(self, results: Sequence[Any]) -> None:
        """Says that these are the latest results."""
        for value in results:
            if jnp.issubdtype(value.dtype, jnp.floating) and 0 not in value.shape:
                self._latest = value

    def zero(self) -> jax.Array:
        """An int32 0 that is known only once the latest result is."""
        if self._latest is None:
            return jnp.int32(0)
        ndim = self._latest.ndim
        value = jax.lax.slice(self._latest, (0,) * ndim, (1,) * ndim).reshape(())
        # Never true, which no compiler's rule finds: with NaN, neither of the two is constant.
        return ((value == value) & (value != value)).astype(jnp.int32)


def _evaluate(program: ClosedJaxpr, inputs: Sequence[Any], clock: _Clock) -> list[Any]:
    """Results of a program of which some inputs are generated later; so may be some results."""

    def bind_now(equation: JaxprEqn, operands: list[Any]) -> list[Any]:
        return jaxprs.bind(equation, [_now(operand) for operand in operands])

    def rule(equation: JaxprEqn, operands: list[Any]) -> list[Any]:
        later = [isinstance(operand, _Later) for operand in operands]
        if not any(later):
            return jaxprs.bind(equation, operands)
        if (inner := jaxprs.called_program(equation)) is not None:
            return jaxprs.evaluate(inner, operands, rule)
        # What follows from weights alone is not needed before they are.
        if later == [not isinstance(atom, Literal) for atom in equation.invars]:
            results = _later(lambda: bind_now(equation, operands), range(len(equation.outvars)))
            return list(results.values())
        results = bind_now(equation, operands)
        clock.tick(results)
        return results

    return jaxprs.evaluate(program, inputs, rule)
