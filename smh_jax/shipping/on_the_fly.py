"""Inference that generates the weights of a few layers at a time and never holds all of them.

The model is traced with its weights as inputs, and the program of the trace is run again with each
weight generated where it is first used. So neither the model nor the method takes part in it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from smh_jax.manifest import Tensor
from smh_jax.methods import Method, Variables
from smh_jax.models import jaxprs
from smh_jax.training.forward import logits_of_params

Predict = Callable[[Variables, dict[str, Any], jax.Array], jax.Array]


def predict(model: nn.Module, method: Method, at_once: int | None = None) -> Predict:
    """The model's forward pass as a function of the variables, to be jitted.

    Its logits are those of `model.apply` on `method.materialize(variables)`, but for rounding. Its
    memory is that of the variables, of the weights that are generated at once, of the largest
    layer's weights and of the activations. A tensor that several layers share is kept from the
    first to the last of them.

    Args:
        model: is called as `model(images, train=False)`.
        method: that generates its weights.
        at_once: consecutive tensors are generated together up to this many elements, which is
            faster than one by one; None takes the largest tensor's size, 0 generates one by one.

    Returns:
        A pure function of the variables, the model's other collections (batch statistics) and the
        images [batch, height, width, channels], whose result is [batch, classes].
    """
    tensors = method.manifest.hashed
    if at_once is None:
        at_once = max((tensor.size for tensor in tensors), default=0)
    groups = list(_groups(tensors, at_once))
    abstract_params = method.manifest.tree(
        {t.name: jax.ShapeDtypeStruct(t.shape, t.dtype) for t in method.manifest.tensors}
    )
    names = jax.tree.leaves(method.manifest.tree({t.name: t.name for t in method.manifest.tensors}))

    def function(variables: Variables, model_state: dict[str, Any], images: jax.Array) -> jax.Array:
        def apply(params: Any, model_state: dict[str, Any], images: jax.Array) -> jax.Array:
            return logits_of_params(model, params, model_state, images)

        program, shape = jax.make_jaxpr(apply, return_shape=True)(
            abstract_params, model_state, images
        )
        clock = _Clock(images)
        weights: dict[str, Any] = dict(variables["stored"])
        for first, last in groups:
            together = _Later(
                lambda first=first, last=last: method.materialize_part(
                    variables, first, last, clock.zero()
                )
            )
            for tensor in tensors[first:last]:
                weights[tensor.name] = _Later(
                    lambda together=together, name=tensor.name: together.now()[name]
                )
        inputs = [*(weights[name] for name in names), *jax.tree.leaves((model_state, images))]
        logits = _evaluate(program, inputs, clock)
        return jax.tree.unflatten(jax.tree.structure(shape), [_now(x) for x in logits])

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
        self._compute = compute
        self._value: Any = None

    def now(self) -> Any:
        """The value."""
        if self._compute is not None:
            self._value, self._compute = self._compute(), None
        return self._value


def _now(value: Any) -> Any:
    return value.now() if isinstance(value, _Later) else value


class _Clock:
    """Tells how far the forward pass has come, in a way that a compiler has to respect.

    Left to itself XLA schedules the generation of many layers ahead of their use (an optimization
    barrier does not stop it on CPU). What is generated is therefore made to depend on the result
    of the last layer.
    """

    def __init__(self, images: jax.Array):
        self._latest: jax.Array | None = None
        self.tick([images])

    def tick(self, results: Sequence[Any]) -> None:
        """Says that these are the latest results."""
        for value in results:
            if jnp.issubdtype(value.dtype, jnp.floating) and 0 not in value.shape:
                self._latest = value

    def zero(self) -> jax.Array:
        """An int32 0 that is known only once the latest result is."""
        if self._latest is None:
            return jnp.int32(0)
        one = jax.lax.slice(self._latest, (0,) * self._latest.ndim, (1,) * self._latest.ndim)
        one = one.reshape(())
        # Never true, which no compiler's rule finds: with NaN, neither of the two is constant.
        return ((one == one) & (one != one)).astype(jnp.int32)


def _evaluate(program: ClosedJaxpr, inputs: Sequence[Any], clock: _Clock) -> list[Any]:
    """Results of a program of which some inputs are generated later; so may be some results."""

    def rule(equation: JaxprEqn, operands: list[Any]) -> list[Any]:
        later = [isinstance(operand, _Later) for operand in operands]
        if not any(later):
            return jaxprs.bind(equation, operands)
        if (inner := jaxprs.called_program(equation)) is not None:
            return jaxprs.evaluate(inner, operands, rule)
        # What follows from weights alone is not needed before they are.
        if later == [not isinstance(atom, Literal) for atom in equation.invars]:
            return _bind_later(equation, operands)
        results = jaxprs.bind(equation, [_now(operand) for operand in operands])
        clock.tick(results)
        return results

    return jaxprs.evaluate(program, inputs, rule)


def _bind_later(equation: JaxprEqn, operands: Sequence[Any]) -> list[_Later]:
    together = _Later(lambda: jaxprs.bind(equation, [_now(operand) for operand in operands]))
    return [_Later(lambda i=i: together.now()[i]) for i in range(len(equation.outvars))]
