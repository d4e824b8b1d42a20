"""The initializers in the traced program of a model's `init`: one small program for each tensor.

Whatever draws a tensor's initial value is in that program, lifted and partitioned layers included,
and most of it is one standard draw of `jax.random` times a number.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

# Programs for this generator compile several times faster than for the default one.
GENERATOR = "rbg"
# What the functions of `jax.random` that initializers draw from are called in a program; their
# bounds follow the key there.
_DRAWS = {
    "_normal": jax.random.normal,
    "_uniform": jax.random.uniform,
    "_truncated_normal": lambda key, shape, dtype, *bounds: jax.random.truncated_normal(
        key, *bounds, shape, dtype
    ),
}
# Operations that map each element by itself, whatever the shape is.
_ELEMENTWISE = ("add", "convert_element_type", "div", "max", "min", "mul", "neg", "sqrt", "sub")


@dataclasses.dataclass(frozen=True)
class Initializer:
    """The program that draws one tensor.

    Attributes:
        jaxpr: from a key to the tensor.
        constants: arrays that it refers to, in its order.
        is_random: whether the tensor depends on the key.
    """

    jaxpr: Jaxpr
    constants: tuple[Any, ...]
    is_random: bool

    @property
    def aval(self) -> Any:
        """Shape and dtype of the tensor."""
        return self.jaxpr.outvars[0].aval

    def draw(self, key: jax.Array) -> jax.Array:
        """An initial value of the tensor."""
        return jaxpr_as_fun(ClosedJaxpr(self.jaxpr, list(self.constants)))(key)[0]

    def sample(self, count: int) -> jax.Array | None:
        """Values of `count` elements, without a program for the tensor's shape.

        Returns:
            [count], or [] where all elements equal a constant; None unless every element is the
            same function of numbers and of at most one standard draw.
        """
        values: dict[Var, Any] = {}
        (key,), (output,), num_draws = self.jaxpr.invars, self.jaxpr.outvars, 0
        for equation in self.jaxpr.eqns:
            name, value = equation.primitive.name, None
            operands = [v.val if isinstance(v, Literal) else values.get(v) for v in equation.invars]
            if key in equation.invars and num_draws == 0:
                value, num_draws = _standard_draw(equation, count), 1
            elif any(operand is None for operand in operands):
                return None
            elif name == "broadcast_in_dim" and np.ndim(operands[0]) == 0:
                value = operands[0]
            elif name in _ELEMENTWISE:
                value = equation.primitive.bind(*operands, **equation.params)
            if value is None:
                return None
            values[equation.outvars[0]] = value
        return output.val if isinstance(output, Literal) else values.get(output)


def trace(init: Callable[[jax.Array], Sequence[jax.Array]]) -> ClosedJaxpr:
    """The program of a function from a key to a model's tensors."""
    return jax.make_jaxpr(init)(jax.random.key(0, impl=GENERATOR))


def initializers(program: ClosedJaxpr) -> list[Initializer]:
    """The initializer of each output of a program that `trace` gave."""
    jaxpr = program.jaxpr
    constants = dict(zip(jaxpr.constvars, program.consts, strict=True))
    producers = {v: i for i, equation in enumerate(jaxpr.eqns) for v in equation.outvars}
    return [_initializer(jaxpr, constants, producers, output) for output in jaxpr.outvars]


def _initializer(
    jaxpr: Jaxpr, constants: Mapping[Var, Any], producers: Mapping[Var, int], output: Any
) -> Initializer:
    (key,) = jaxpr.invars
    equations, used = _needed(jaxpr, producers, output, stop=_is_key)
    keys = [variable for variable in used if _is_key(variable)]
    if len(keys) == 1 and keys[0].aval.shape == ():
        # It follows from the model's key by names, numbers or splits; any key is as good.
        key = keys[0]
    else:
        equations, used = _needed(jaxpr, producers, output, stop=lambda variable: False)
    kept = [variable for variable in constants if variable in used]
    debug_info = jaxpr.debug_info.with_unknown_names()
    part = Jaxpr(kept, [key], [output], equations, debug_info=debug_info)
    return Initializer(part, tuple(constants[variable] for variable in kept), bool(keys))


def _needed(
    jaxpr: Jaxpr, producers: Mapping[Var, int], output: Any, stop: Callable[[Var], bool]
) -> tuple[list[JaxprEqn], set[Var]]:
    """The equations and variables that an output follows from, back to variables that `stop`."""
    used, needed, pending = set(), set(), [output]
    while pending:
        variable = pending.pop()
        if isinstance(variable, Literal) or variable in used:
            continue
        used.add(variable)
        if variable in producers and not stop(variable):
            needed.add(producers[variable])
            pending += jaxpr.eqns[producers[variable]].invars
    return [jaxpr.eqns[index] for index in sorted(needed)], used


def _is_key(variable: Var) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jax.dtypes.prng_key)


def _standard_draw(equation: JaxprEqn, count: int) -> jax.Array | None:
    """`count` values as the equation draws them; None unless it is one of `_DRAWS`."""
    name, (_, *bounds) = equation.params.get("name"), equation.invars
    if name not in _DRAWS or not all(isinstance(bound, Literal) for bound in bounds):
        return None
    values, drawn = [bound.val for bound in bounds], equation.outvars[0].aval
    # Another function of the same name would have another program.
    expected = trace(lambda key: [_DRAWS[name](key, drawn.shape, drawn.dtype, *values)]).eqns[0]
    if str(expected.params["jaxpr"]) != str(equation.params["jaxpr"]):
        return None
    return _sample(name, count, drawn.dtype, *map(float, values))


@functools.cache
def _sample(name: str, count: int, dtype: Any, *bounds: float) -> jax.Array:
    return _DRAWS[name](jax.random.key(1, impl=GENERATOR), (count,), dtype, *bounds)
