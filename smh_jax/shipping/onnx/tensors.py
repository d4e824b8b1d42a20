"""Values of a traced program on their way into an ONNX graph."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from smh_jax.shipping.onnx.graph import Graph, type_of

Dims = tuple[Any, ...]


class Tensor(NamedTuple):
    """A value.

    Attributes:
        data: an array, where it is known now, or the name of what the graph computes.
        dims: its shape, in which the size of the batch is a symbol. It may have 1 where the traced
            value has been broadcast: ONNX's operators broadcast by themselves.
        dtype: of the traced value. Where that is bfloat16 the graph computes in float32.
        compute: of an array that would take more room in the file than the operators that make it:
            adds those to the graph. None if it is to be stored.
    """

    data: np.ndarray | str
    dims: Dims
    dtype: np.dtype
    compute: "Callable[[], Tensor] | None" = None

    @property
    def is_known(self) -> bool:
        """Whether it is an array."""
        return isinstance(self.data, np.ndarray)

    @property
    def is_stored(self) -> bool:
        """Whether it is an array that may be in the file."""
        return self.is_known and self.compute is None


@dataclasses.dataclass(frozen=True)
class Builder:
    """A graph and what translations of primitives have in common.

    Attributes:
        graph: that is built.
        batch: the symbol of its size, and the name of a graph input whose first axis has it.
    """

    graph: Graph
    batch: tuple[Any, str]

    def of(self, tensor: Tensor) -> str:
        """The tensor's name in the graph."""
        if not tensor.is_known:
            return tensor.data
        if tensor.compute is not None:
            return self.of(self.whole(tensor.compute(), tensor.dims))
        is_bfloat16 = tensor.data.dtype == ml_dtypes.bfloat16
        return self.graph.constant(tensor.data.astype(np.float32) if is_bfloat16 else tensor.data)

    def integers(self, values: Sequence[int]) -> str:
        """The name of a vector of int64, as the operators want their arguments."""
        return self.graph.constant(np.asarray(values, np.int64))

    def node(self, operator: str, *inputs: Tensor | str, like: Any, **attributes: Any) -> Tensor:
        """An operator's only result, of the shape and dtype of `like`."""
        names = [self.of(x) if isinstance(x, Tensor) else x for x in inputs]
        name = self.graph.node(operator, *names, **attributes)
        return Tensor(name, tuple(getattr(like, "dims", None) or like.shape), np.dtype(like.dtype))

    def cast(self, tensor: Tensor, dtype: Any) -> Tensor:
        """The tensor in another dtype."""
        dtype = np.dtype(dtype)
        if tensor.is_stored:
            return Tensor(tensor.data.astype(dtype), tensor.dims, dtype)
        if tensor.dtype == dtype or (tensor.dtype, dtype) == (ml_dtypes.bfloat16, np.float32):
            return tensor._replace(dtype=dtype)
        if (tensor.dtype, dtype) == (np.float32, ml_dtypes.bfloat16):
            # Computed in float32, but of the rounded value.
            rounded = self.graph.node("Cast", self.of(tensor), to=type_of(dtype))
            return Tensor(
                self.graph.node("Cast", rounded, to=type_of(np.float32)), tensor.dims, dtype
            )
        to = type_of(np.float32 if dtype == ml_dtypes.bfloat16 else dtype)
        return Tensor(self.graph.node("Cast", self.of(tensor), to=to), tensor.dims, dtype)

    def reshape(self, tensor: Tensor, dims: Dims) -> Tensor:
        """The tensor, which must not be broadcast, in another shape."""
        if tensor.dims == dims:
            return tensor
        if tensor.is_stored:
            return Tensor(tensor.data.reshape(dims), dims, tensor.dtype)
        sizes = [size if isinstance(size, int) else -1 for size in dims]
        if sizes.count(-1) > 1:
            raise ValueError(f"a reshape to {dims} depends on the batch twice")
        name = self.graph.node("Reshape", self.of(tensor), self.integers(sizes))
        return Tensor(name, dims, tensor.dtype)

    def transpose(self, tensor: Tensor, permutation: Sequence[int]) -> Tensor:
        """The tensor with its axes in another order."""
        permutation = tuple(map(int, permutation))
        if permutation == tuple(range(len(permutation))):
            return tensor
        dims = tuple(tensor.dims[axis] for axis in permutation)
        if tensor.is_stored:
            return Tensor(tensor.data.transpose(permutation), dims, tensor.dtype)
        name = self.graph.node("Transpose", self.of(tensor), perm=list(permutation))
        return Tensor(name, dims, tensor.dtype)

    def whole(self, tensor: Tensor, shape: Dims) -> Tensor:
        """The tensor with what has been broadcast written out."""
        if tensor.dims == tuple(shape):
            return tensor
        if tensor.is_stored and all(isinstance(size, int) for size in shape):
            return Tensor(np.broadcast_to(tensor.data, shape), tuple(shape), tensor.dtype)
        symbol, source = self.batch
        if all(isinstance(size, int) or size == have
               for size, have in zip(shape, tensor.dims, strict=True)):  # fmt: skip
            target = self.integers([size if isinstance(size, int) else 1 for size in shape])
        elif all(isinstance(size, int) or size == symbol for size in shape):
            parts = [
                self.integers([size]) if isinstance(size, int)
                else self.graph.node("Shape", source, start=0, end=1)
                for size in shape
            ]  # fmt: skip
            target = self.graph.node("Concat", *parts, axis=0)
        else:
            raise ValueError(f"a broadcast to {shape} is more than the batch")
        name = self.graph.node("Expand", self.of(tensor), target)
        return Tensor(name, tuple(shape), tensor.dtype)

    def slice(
        self, tensor: Tensor, starts: Sequence[int], ends: Sequence[Any], strides: Sequence[int]
    ) -> Tensor:
        """Every so many elements of a range, along each axis; whole axes cost nothing."""
        taken = zip(starts, ends, strides, tensor.dims, strict=True)
        axes = [i for i, (a, b, s, size) in enumerate(taken) if (a, s) != (0, 1) or b != size]
        if not axes:
            return tensor
        dims = list(tensor.dims)
        for axis in axes:
            dims[axis] = max(0, -(-(ends[axis] - starts[axis]) // strides[axis]))
        if tensor.is_stored:
            index = tuple(map(slice, starts, ends, strides))
            return Tensor(tensor.data[index], tuple(dims), tensor.dtype)
        begins, limits, steps = (
            [int(values[axis]) for axis in axes] for values in (starts, ends, strides)
        )
        arguments = [begins, limits, axes, *([steps] if any(step != 1 for step in steps) else [])]
        name = self.graph.node("Slice", self.of(tensor), *map(self.integers, arguments))
        return Tensor(name, tuple(dims), tensor.dtype)


# A translation: of a builder, the equation and its operands into its results.
Translation = Callable[..., Tensor | list[Tensor]]
TRANSLATIONS: dict[str, Translation] = {}


def translates(*primitives: str) -> Callable[[Translation], Translation]:
    """Registers the translation of JAX's primitives of these names."""

    def register(translation: Translation) -> Translation:
        TRANSLATIONS.update(dict.fromkeys(primitives, translation))
        return translation

    return register


def translates_whole(*primitives: str) -> Callable[[Translation], Translation]:
    """Registers a translation of operands in which what has been broadcast is written out."""

    def register(translation: Translation) -> Translation:
        @translates(*primitives)
        def of_whole(builder: Builder, equation: Any, *operands: Tensor) -> Tensor | list[Tensor]:
            shapes = [atom.aval.shape for atom in equation.invars]
            return translation(builder, equation, *map(builder.whole, operands, shapes))

        return translation

    return register
