"""What follows from constants alone, computed by NumPy while translating."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

# Results may have as many bytes as the largest operand, and this many in any case.
_MAX_BYTES = 2**20

_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "add": np.add, "convert_element_type": np.asarray, "eq": np.equal,
    "ge": np.greater_equal, "gt": np.greater, "le": np.less_equal, "lt": np.less,
    "max": np.maximum, "min": np.minimum, "mul": np.multiply, "ne": np.not_equal,
    "neg": np.negative, "rem": np.fmod, "rsqrt": lambda x: 1 / np.sqrt(x),
    "select_n": lambda which, no, yes: np.where(which, yes, no), "sqrt": np.sqrt,
    "sub": np.subtract,
}  # fmt: skip


def fold(equation: JaxprEqn, operands: list[np.ndarray]) -> list[np.ndarray] | None:
    """The results of an equation of known operands, which may be broadcast: so may be the results.

    None if they are large, or of a shape that depends on the batch, or of an operation that is
    not worth it.
    """
    shapes = [tuple(v.aval.shape) for v in (*equation.invars, *equation.outvars)]
    if not all(isinstance(size, int) for shape in shapes for size in shape):
        return None
    outputs = [v.aval for v in equation.outvars]
    num_bytes = sum(math.prod(out.shape) * out.dtype.itemsize for out in outputs)
    if num_bytes > max(_MAX_BYTES, *(x.nbytes for x in operands), 0):
        return None
    name, params = equation.primitive.name, equation.params
    if name in _ELEMENTWISE:
        return [np.asarray(_ELEMENTWISE[name](*operands)).astype(outputs[0].dtype)]
    whole = [np.broadcast_to(x, shape) for x, shape in zip(operands, shapes, strict=False)]
    match name:
        case "reshape" | "squeeze":
            return [whole[0].reshape(outputs[0].shape)]
        case "slice":
            bounds = (params["start_indices"], params["limit_indices"])
            return [whole[0][tuple(map(slice, *bounds, params["strides"] or [1] * whole[0].ndim))]]
        case "split":
            return np.split(whole[0], np.cumsum(params["sizes"])[:-1], params["axis"])
        case "concatenate":
            return [np.concatenate(whole, params["dimension"])]
        case "iota":
            index = np.indices(params["shape"])[params["dimension"]]
            return [index.astype(params["dtype"])]
    return None
