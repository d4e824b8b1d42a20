"""JAX's elementwise primitives in ONNX. Operands may be broadcast: so is the result, then."""

from typing import Any

import numpy as np

from smh_jax.shipping.onnx.tensors import Builder, Tensor, broadcast, translates

_OPERATORS = {
    "abs": "Abs", "add": "Add", "ceil": "Ceil", "div": "Div", "eq": "Equal", "erf": "Erf",
    "exp": "Exp", "floor": "Floor", "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual",
    "log": "Log", "logistic": "Sigmoid", "lt": "Less", "max": "Max", "min": "Min", "mul": "Mul",
    "neg": "Neg", "pow": "Pow", "sign": "Sign", "sqrt": "Sqrt", "sub": "Sub", "tanh": "Tanh",
}  # fmt: skip
_LOGICAL = {"and": "And", "or": "Or", "xor": "Xor"}


def elementwise(
    builder: Builder, operator: str, *operands: Tensor, dtype: Any, **attributes: Any
) -> Tensor:
    """An operator that broadcasts its operands."""
    names = [builder.of(operand) for operand in operands]
    dims = broadcast([operand.dims for operand in operands])
    return Tensor(builder.graph.node(operator, *names, **attributes), dims, np.dtype(dtype))


@translates(*_OPERATORS)
def _operator(builder: Builder, equation: Any, *operands: Tensor) -> Tensor:
    dtype = equation.outvars[0].aval.dtype
    return elementwise(builder, _OPERATORS[equation.primitive.name], *operands, dtype=dtype)


@translates(*_LOGICAL)
def _logical(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    operator = _LOGICAL[equation.primitive.name]
    if x.dtype != np.bool_:
        operator = f"Bitwise{operator}"
    return elementwise(builder, operator, x, y, dtype=x.dtype)


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
        raise ValueError(f"ONNX shifts unsigned integers, not {x.dtype}")
    direction = "LEFT" if equation.primitive.name == "shift_left" else "RIGHT"
    return elementwise(builder, "BitShift", x, y, dtype=x.dtype, direction=direction)


@translates("rsqrt")
def _rsqrt(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    root = elementwise(builder, "Sqrt", x, dtype=x.dtype)
    return elementwise(builder, "Reciprocal", root, dtype=x.dtype)


@translates("square")
def _square(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    return elementwise(builder, "Mul", x, x, dtype=x.dtype)


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
