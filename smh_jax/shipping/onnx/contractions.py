"""JAX's primitives that sum over elements, in ONNX."""

import math
from typing import Any

import jax
import numpy as np

from smh_jax.shipping.onnx.tensors import Builder, Tensor, translates_whole

_REDUCTIONS = {"reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_sum": "ReduceSum"}


@translates_whole(*_REDUCTIONS)
def _reduce(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    operator, axes = _REDUCTIONS[equation.primitive.name], equation.params["axes"]
    out = equation.outvars[0].aval
    return builder.node(operator, x, builder.integers(axes), like=out, keepdims=0)


@translates_whole("dot_general")
def _dot(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    (x_sum, y_sum), (x_batch, y_batch) = equation.params["dimension_numbers"]
    out = equation.outvars[0].aval
    x_free = [i for i in range(len(x.dims)) if i not in (*x_sum, *x_batch)]
    y_free = [i for i in range(len(y.dims)) if i not in (*y_sum, *y_batch)]
    x = builder.transpose(x, (*x_batch, *x_free, *x_sum))
    y = builder.transpose(y, (*y_batch, *y_sum, *y_free))
    if not x_batch and len(x_sum) == len(y_free) == 1 and x_free:
        return builder.node("MatMul", x, y, like=out)
    batch = x.dims[: len(x_batch)]
    free = x.dims[len(x_batch) : len(x_batch) + len(x_free)]
    # One of these products may have the batch's symbol.
    rows, columns = math.prod(free), math.prod(y.dims[len(y_batch) + len(y_sum) :])
    inner = math.prod(x.dims[len(x_batch) + len(x_free) :])
    x = builder.reshape(x, (*batch, rows, inner))
    y = builder.reshape(y, (*batch, inner, columns))
    like = jax.ShapeDtypeStruct((*batch, rows, columns), out.dtype)
    return builder.reshape(builder.node("MatMul", x, y, like=like), tuple(out.shape))


@translates_whole("conv_general_dilated")
def _convolution(builder: Builder, equation: Any, x: Tensor, kernel: Tensor) -> Tensor:
    """ONNX has channels first and kernels [out, in, ...]: the specs say where JAX has them."""
    params = equation.params
    if params["batch_group_count"] != 1 or any(n != 1 for n in params["lhs_dilation"]):
        raise ValueError("a transposed convolution")
    low, high = zip(*params["padding"], strict=True)
    if min(*low, *high) < 0:
        raise ValueError("a convolution with negative padding")
    x_spec, kernel_spec, out_spec = params["dimension_numbers"]
    out = equation.outvars[0].aval
    x, kernel = builder.transpose(x, x_spec), builder.transpose(kernel, kernel_spec)
    attributes: dict[str, Any] = {}
    if any((*low, *high)):
        attributes["pads"] = [*low, *high]
    if any(stride != 1 for stride in params["window_strides"]):
        attributes["strides"] = list(params["window_strides"])
    if any(dilation != 1 for dilation in params["rhs_dilation"]):
        attributes["dilations"] = list(params["rhs_dilation"])
    if params["feature_group_count"] != 1:
        attributes["group"] = params["feature_group_count"]
    like = jax.ShapeDtypeStruct([out.shape[axis] for axis in out_spec], out.dtype)
    convolved = builder.node("Conv", x, kernel, like=like, **attributes)
    return builder.transpose(convolved, np.argsort(out_spec))


@translates_whole("reduce_window_max")
def _max_pool(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    params = equation.params
    window, strides = params["window_dimensions"], params["window_strides"]
    if any(n != 1 for n in (*params["base_dilation"], *params["window_dilation"])):
        raise ValueError("a dilated window")
    rank = len(window)
    if window[0] != 1 or window[-1] != 1 or rank < 3:
        raise ValueError(f"a window of {window}: only axes between the first and the last")
    channels_first = (0, rank - 1, *range(1, rank - 1))
    x = builder.transpose(x, channels_first)
    low, high = zip(*params["padding"][1:-1], strict=True)
    shape = equation.outvars[0].aval.shape
    like = jax.ShapeDtypeStruct([shape[axis] for axis in channels_first], x.dtype)
    sizes = {"kernel_shape": window[1:-1], "strides": strides[1:-1], "pads": (*low, *high)}
    pooled = builder.node("MaxPool", x, like=like, **sizes)
    return builder.transpose(pooled, np.argsort(channels_first))
