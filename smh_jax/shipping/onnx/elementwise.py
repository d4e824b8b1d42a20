"""JAX's elementwise primitives in ONNX. Operands may be broadcast: so is the result, then."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smh_jax.shipping.onnx.tensors import Builder, Tensor, translates

_OPERATORS = {
    "abs": "Abs", "add": "Add", "ceil": "Ceil", "div": "Div", "eq": "Equal", "erf": "Erf",
    "exp": "Exp", "floor": "Floor", "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual",
    "log": "Log", "logistic": "Sigmoid", "lt": "Less", "max": "Max", "min": "Min", "mul": "Mul",
    "neg": "Neg", "pow": "Pow", "sign": "Sign", "sqrt": "Sqrt", "sub": "Sub", "tanh": "Tanh",
    # The second operator is of the first one's result.
    "ne": "Equal Not", "rsqrt": "Sqrt Reciprocal",
}  # fmt: skip
_LOGICAL = {"and": "And", "or": "Or", "xor": "Xor"}


def elementwise(
    builder: Builder, operator: str, *operands: Tensor, dtype: Any, **attributes: Any
) -> Tensor:
    """An operator that broadcasts its operands."""
    dims = jnp.broadcast_shapes(*(operand.dims for operand in operands))
    like = jax.ShapeDtypeStruct(dims, dtype)
    return builder.node(operator, *operands, like=like, **attributes)


@translates(*_OPERATORS)
def _operator(builder: Builder, equation: Any, *operands: Tensor) -> Tensor:
    for operator in _OPERATORS[equation.primitive.name].split():
        dtype = equation.outvars[0].aval.dtype
        operands = (elementwise(builder, operator, *operands, dtype=dtype),)
    return operands[0]


@translates(*_LOGICAL)
def _logical(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    operator = _LOGICAL[equation.primitive.name]
    if x.dtype != np.bool_:
        operator = f"Bitwise{operator}"
    return elementwise(builder, operator, x, y, dtype=x.dtype)


@translates("rem")
def _remainder(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    # The sign of the dividend, as in JAX; of unsigned numbers there is only one remainder.
    sign_of_dividend = int(x.dtype.kind != "u")
    return elementwise(builder, "Mod", x, y, dtype=x.dtype, fmod=sign_of_dividend)


@translates("shift_left", "shift_right_logical")
def _shift(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.kind != "u":
        raise ValueError(f"ONNX shifts unsigned integers, not {x.dtype}")
    direction = "LEFT" if equation.primitive.name == "shift_left" else "RIGHT"
    return elementwise(builder, "BitShift", x, y, dtype=x.dtype, direction=direction)


@translates("square")
def _square(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    return elementwise(builder, "Mul", x, x, dtype=x.dtype)


@translates("integer_pow")
def _integer_pow(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    exponent = builder.graph.constant(np.asarray(equation.params["y"], x.dtype))
    return builder.node("Pow", x, exponent, like=x)


@translates("erfc")
def _erfc(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    one = builder.graph.constant(np.asarray(1, x.dtype))
    return builder.node("Sub", one, builder.node("Erf", x, like=x), like=x)


@translates("exp2")
def _exp2(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    two = builder.graph.constant(np.asarray(2, x.dtype))
    return builder.node("Pow", two, x, like=x)


@translates("select_n")
def _select(builder: Builder, equation: Any, which: Tensor, *cases: Tensor) -> Tensor:
    if which.dtype != np.bool_ or len(cases) != 2:
        raise ValueError(f"a choice among {len(cases)} cases by {which.dtype}")
    return elementwise(builder, "Where", which, cases[1], cases[0], dtype=cases[0].dtype)


@translates("convert_element_type")
def _convert(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    return builder.cast(x, equation.params["new_dtype"])


@translates("copy", "optimization_barrier", "reduce_precision", "stop_gradient")
def _identity(builder: Builder, equation: Any, *operands: Tensor) -> list[Tensor]:
    return list(operands)
