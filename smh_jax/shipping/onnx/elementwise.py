"""JAX's elementwise primitives in ONNX. Operands may be broadcast: so is the result, then."""

from typing import Any

import ml_dtypes
import numpy as np

from smh_jax.shipping.onnx.tensors import Builder, Tensor, broadcast, translates

_UNARY = {
    "abs": "Abs", "ceil": "Ceil", "cos": "Cos", "erf": "Erf", "exp": "Exp", "floor": "Floor",
    "log": "Log", "logistic": "Sigmoid", "neg": "Neg", "sign": "Sign", "sin": "Sin",
    "sqrt": "Sqrt", "tanh": "Tanh",
}  # fmt: skip
_BINARY = {
    "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max",
    "min": "Min", "pow": "Pow", "eq": "Equal", "lt": "Less", "le": "LessOrEqual",
    "gt": "Greater", "ge": "GreaterOrEqual",
}  # fmt: skip
_LOGICAL = {"and": "And", "or": "Or", "xor": "Xor"}
_IDENTITIES = ("copy", "copy_p", "stop_gradient", "reduce_precision", "optimization_barrier")


def elementwise(
    builder: Builder, operator: str, *operands: Tensor, dtype: Any, **attributes: Any
) -> Tensor:
    """An operator that broadcasts its operands."""
    names = [builder.of(operand) for operand in operands]
    dims = broadcast([operand.dims for operand in operands])
    return Tensor(builder.graph.node(operator, *names, **attributes), dims, np.dtype(dtype))


def scalar(value: float, like: Tensor) -> Tensor:
    """A known number of a tensor's dtype."""
    return Tensor(np.asarray(value, like.dtype), (), like.dtype)


@translates(*_UNARY)
def _unary(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    return elementwise(builder, _UNARY[equation.primitive.name], x, dtype=x.dtype)


@translates(*_BINARY)
def _binary(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    dtype = equation.outvars[0].aval.dtype
    if x.dtype == np.bool_ and equation.primitive.name in ("lt", "le", "gt", "ge", "max", "min"):
        raise ValueError(f"{equation.primitive.name} of truth values")
    return elementwise(builder, _BINARY[equation.primitive.name], x, y, dtype=dtype)


@translates(*_LOGICAL)
def _logical(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    operator = _LOGICAL[equation.primitive.name]
    if x.dtype != np.bool_:
        operator = f"Bitwise{operator}"
    return elementwise(builder, operator, x, y, dtype=x.dtype)


@translates("not")
def _not(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    operator = "Not" if x.dtype == np.bool_ else "BitwiseNot"
    return elementwise(builder, operator, x, dtype=x.dtype)


@translates("ne")
def _not_equal(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    equal = elementwise(builder, "Equal", x, y, dtype=np.bool_)
    return elementwise(builder, "Not", equal, dtype=np.bool_)


@translates("rem")
def _remainder(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    # The sign of the dividend, as in JAX; of unsigned numbers there is only one remainder.
    sign_of_dividend = int(x.dtype.kind != "u")
    return elementwise(builder, "Mod", x, y, dtype=x.dtype, fmod=sign_of_dividend)


@translates("shift_left", "shift_right_logical")
def _shift(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.kind != "u":
        raise ValueError(f"{equation.primitive.name} of {x.dtype}: ONNX shifts unsigned numbers")
    direction = "LEFT" if equation.primitive.name == "shift_left" else "RIGHT"
    return elementwise(builder, "BitShift", x, y, dtype=x.dtype, direction=direction)


@translates("rsqrt")
def _rsqrt(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    root = elementwise(builder, "Sqrt", x, dtype=x.dtype)
    return elementwise(builder, "Reciprocal", root, dtype=x.dtype)


@translates("square")
def _square(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    return elementwise(builder, "Mul", x, x, dtype=x.dtype)


@translates("integer_pow")
def _integer_power(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    exponent = scalar(equation.params["y"], x)
    return elementwise(builder, "Pow", x, exponent, dtype=x.dtype)


@translates("log1p")
def _log_of_one_more(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    more = elementwise(builder, "Add", x, scalar(1, x), dtype=x.dtype)
    return elementwise(builder, "Log", more, dtype=x.dtype)


@translates("select_n")
def _select(builder: Builder, equation: Any, which: Tensor, *cases: Tensor) -> Tensor:
    if which.dtype != np.bool_ or len(cases) != 2:
        raise ValueError(f"a choice among {len(cases)} cases by {which.dtype}")
    return elementwise(builder, "Where", which, cases[1], cases[0], dtype=cases[0].dtype)


@translates("clamp")
def _clamp(builder: Builder, equation: Any, low: Tensor, x: Tensor, high: Tensor) -> Tensor:
    above = elementwise(builder, "Max", x, low, dtype=x.dtype)
    return elementwise(builder, "Min", above, high, dtype=x.dtype)


@translates("convert_element_type")
def _convert(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    return builder.cast(x, equation.params["new_dtype"])


@translates(*_IDENTITIES)
def _identity(builder: Builder, equation: Any, *operands: Tensor) -> list[Tensor]:
    return list(operands)


def is_float(dtype: Any) -> bool:
    """Whether the graph computes in float32 for it."""
    return np.dtype(dtype) in (np.float32, ml_dtypes.bfloat16)
