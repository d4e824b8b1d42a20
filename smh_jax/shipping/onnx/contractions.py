"""JAX's primitives that sum over elements, in ONNX."""

from typing import Any

import numpy as np

from smh_jax.shipping.onnx.tensors import Builder, Tensor, product, translates

_REDUCTIONS = {"reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_sum": "ReduceSum"}


@translates(*_REDUCTIONS)
def _reduce(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    x = builder.whole(x, equation.invars[0].aval.shape)
    operator, axes = _REDUCTIONS[equation.primitive.name], equation.params["axes"]
    out = equation.outvars[0].aval
    return builder.node(operator, x, builder.integers(axes), like=out, keepdims=0)


@translates("dot_general")
def _dot(builder: Builder, equation: Any, x: Tensor, y: Tensor) -> Tensor:
    (x_sum, y_sum), (x_batch, y_batch) = equation.params["dimension_numbers"]
    x, y = (builder.whole(t, v.aval.shape) for t, v in zip((x, y), equation.invars, strict=True))
    out = equation.outvars[0].aval
    x_free = [i for i in range(len(x.dims)) if i not in (*x_sum, *x_batch)]
    y_free = [i for i in range(len(y.dims)) if i not in (*y_sum, *y_batch)]
    x = builder.transpose(x, (*x_batch, *x_free, *x_sum))
    y = builder.transpose(y, (*y_batch, *y_sum, *y_free))
    if not x_batch and len(x_sum) == len(y_free) == 1 and x_free:
        return builder.node("MatMul", x, y, like=out)
    batch = x.dims[: len(x_batch)]
    free = x.dims[len(x_batch) : len(x_batch) + len(x_free)]
    inner = product(x.dims[len(x_batch) + len(x_free) :])
    outer = y.dims[len(y_batch) + len(y_sum) :]
    x = builder.reshape(x, (*batch, product(free), inner))
    y = builder.reshape(y, (*batch, inner, product(outer)))
    dims = (*batch, product(free), product(outer))
    name = builder.graph.node("MatMul", builder.of(x), builder.of(y))
    return builder.reshape(Tensor(name, dims, np.dtype(out.dtype)), tuple(out.shape))


@translates("conv_general_dilated")
def _convolution(builder: Builder, equation: Any, x: Tensor, kernel: Tensor) -> Tensor:
    """ONNX has channels first and kernels [out, in, ...]: the specs say where JAX has them."""
    params = equation.params
    if params["batch_group_count"] != 1 or any(n != 1 for n in params["lhs_dilation"]):
        raise ValueError("a transposed convolution")
    low, high = zip(*params["padding"], strict=True)
    if min(*low, *high) < 0:
        raise ValueError("a convolution with negative padding")
    x_spec, kernel_spec, out_spec = params["dimension_numbers"]
    x, kernel = (
        builder.whole(t, v.aval.shape) for t, v in zip((x, kernel), equation.invars, strict=True)
    )
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
    name = builder.graph.node("Conv", builder.of(x), builder.of(kernel), **attributes)
    dims = tuple(out.shape[axis] for axis in out_spec)
    return builder.transpose(Tensor(name, dims, np.dtype(out.dtype)), np.argsort(out_spec))


@translates("reduce_window_max")
def _max_pool(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    params = equation.params
    window, strides = params["window_dimensions"], params["window_strides"]
    if any(n != 1 for n in (*params["base_dilation"], *params["window_dilation"])):
        raise ValueError("a dilated window")
    rank = len(window)
    if window[0] != 1 or window[-1] != 1 or rank < 3:
        raise ValueError(f"a window of {window}: only axes between the first and the last")
    channels_first = (0, rank - 1, *range(1, rank - 1))
    x = builder.transpose(builder.whole(x, equation.invars[0].aval.shape), channels_first)
    low, high = zip(*params["padding"][1:-1], strict=True)
    name = builder.graph.node(
        "MaxPool",
        builder.of(x),
        kernel_shape=window[1:-1],
        strides=strides[1:-1],
        pads=(*low, *high),
    )
    dims = tuple(equation.outvars[0].aval.shape[axis] for axis in channels_first)
    return builder.transpose(Tensor(name, dims, x.dtype), np.argsort(channels_first))
