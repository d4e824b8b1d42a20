"""JAX's primitives that move elements about, in ONNX."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from smh_jax.shipping.onnx.tensors import Builder, Tensor, translates, translates_whole


@translates("broadcast_in_dim")
def _broadcast(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    """Only the axes of size 1: what takes the result broadcasts it, or has it written out."""
    sizes = dict(zip(equation.params["broadcast_dimensions"], x.dims, strict=True))
    return builder.reshape(x, tuple(sizes.get(i, 1) for i in range(len(equation.params["shape"]))))


@translates_whole("reshape", "squeeze", "expand_dims")
def _reshape(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    return builder.reshape(x, tuple(equation.outvars[0].aval.shape))


@translates_whole("transpose")
def _transpose(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    return builder.transpose(x, equation.params["permutation"])


@translates_whole("slice")
def _slice(builder: Builder, equation: Any, x: Tensor) -> Tensor:
    params = equation.params
    strides = params["strides"] or (1,) * len(x.dims)
    return builder.slice(x, params["start_indices"], params["limit_indices"], strides)


@translates_whole("dynamic_slice")
def _dynamic_slice(builder: Builder, equation: Any, x: Tensor, *starts: Tensor) -> Tensor:
    """As in JAX, a start from which the slice would leave the array is moved to where it fits."""
    sizes = equation.params["slice_sizes"]
    axes = [axis for axis, size in enumerate(sizes) if x.dims[axis] != size]
    if not axes:
        return x
    vectors = []
    for axis in axes:
        start, last = builder.cast(starts[axis], np.int64), x.dims[axis] - sizes[axis]
        if start.is_stored:
            vectors.append(builder.integers([min(max(int(start.data), 0), last)]))
            continue
        name = builder.graph.node("Max", builder.of(start), builder.graph.constant(np.int64(0)))
        name = builder.graph.node("Min", name, builder.graph.constant(np.int64(last)))
        vectors.append(builder.graph.node("Reshape", name, builder.integers([1])))
    begins = vectors[0] if len(axes) == 1 else builder.graph.node("Concat", *vectors, axis=0)
    ends = builder.graph.node("Add", begins, builder.integers([sizes[axis] for axis in axes]))
    out = equation.outvars[0].aval
    return builder.node("Slice", x, begins, ends, builder.integers(axes), like=out)


@translates_whole("pad")
def _pad(builder: Builder, equation: Any, x: Tensor, value: Tensor) -> Tensor:
    low, high, interior = zip(*equation.params["padding_config"], strict=True)
    if any(interior) or min(*low, *high) < 0:
        raise ValueError("padding between elements, or of negative size")
    pads = builder.integers((*low, *high))
    return builder.node("Pad", x, pads, value, like=equation.outvars[0].aval)


@translates_whole("concatenate")
def _concatenate(builder: Builder, equation: Any, *operands: Tensor) -> Tensor:
    axis = equation.params["dimension"]
    return builder.node("Concat", *operands, like=equation.outvars[0].aval, axis=axis)


@translates_whole("stack")
def _stack(builder: Builder, equation: Any, *operands: Tensor) -> Tensor:
    axis, out = equation.params["axis"], equation.outvars[0].aval
    single = (*out.shape[:axis], 1, *out.shape[axis + 1 :])
    stacked = [builder.reshape(x, single) for x in operands]
    return builder.node("Concat", *stacked, like=out, axis=axis)


@translates_whole("split")
def _split(builder: Builder, equation: Any, x: Tensor) -> list[Tensor]:
    sizes, axis = equation.params["sizes"], equation.params["axis"]
    inputs = builder.of(x), builder.integers(sizes)
    names = builder.graph.nodes("Split", *inputs, num_outputs=len(sizes), axis=axis)
    shapes = [tuple(out.aval.shape) for out in equation.outvars]
    return [Tensor(name, dims, x.dtype) for name, dims in zip(names, shapes, strict=True)]


@translates_whole("iota")
def _iota(builder: Builder, equation: Any) -> Tensor:
    params = equation.params
    axis, size = params["dimension"], params["shape"][params["dimension"]]
    ends = [builder.graph.constant(np.int64(end)) for end in (0, size, 1)]
    counted = Tensor(builder.graph.node("Range", *ends), (size,), np.dtype(np.int64))
    dims = tuple(size if i == axis else 1 for i in range(len(params["shape"])))
    return builder.reshape(builder.cast(counted, params["dtype"]), dims)


@translates_whole("gather")
def _gather(builder: Builder, equation: Any, x: Tensor, indices: Tensor) -> Tensor:
    """Whole slices at indices along one axis, or at a grid of known indices along several."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    axes = tuple(numbers.start_index_map)
    out = equation.outvars[0].aval
    between = tuple(i for i in range(len(out.shape)) if i not in numbers.offset_dims)
    is_plain = (
        tuple(numbers.collapsed_slice_dims) == axes
        and not numbers.operand_batching_dims
        and all(sizes[i] == size for i, size in enumerate(x.dims) if i not in axes)
    )
    batch_dims = indices.dims[:-1]
    if is_plain and len(axes) == 1 and between == tuple(range(axes[0], axes[0] + len(batch_dims))):
        flat = builder.reshape(indices, batch_dims)
        return builder.node("Gather", x, flat, like=out, axis=axes[0])
    grid = _grid(indices.data) if indices.is_known else None
    if is_plain and grid is not None and between == axes:
        for axis, positions in zip(axes, grid, strict=True):
            steps = set(np.diff(positions).tolist())
            if len(steps) == 1 and min(steps) > 0:
                begins, ends, strides = [0] * len(x.dims), list(x.dims), [1] * len(x.dims)
                begins[axis], ends[axis] = int(positions[0]), int(positions[-1]) + 1
                strides[axis] = min(steps)
                x = builder.slice(x, begins, ends, strides)
            else:
                dims = (*x.dims[:axis], len(positions), *x.dims[axis + 1 :])
                like = jax.ShapeDtypeStruct(dims, x.dtype)
                x = builder.node("Gather", x, builder.integers(positions), like=like, axis=axis)
        return x
    raise ValueError(f"a gather with {numbers} and slices of {sizes}")


def _grid(indices: np.ndarray) -> Sequence[np.ndarray] | None:
    """Positions along each axis if the indices [n1, n2, ..., axes] are all their combinations."""
    if indices.ndim != indices.shape[-1] + 1:
        return None
    positions = []
    for axis in range(indices.shape[-1]):
        along = np.moveaxis(indices[..., axis], axis, -1).reshape(-1, indices.shape[axis])
        if not np.all(along == along[0]):
            return None
        positions.append(along[0])
    return positions
