"""An ONNX graph under construction: every constant and every computation in it once."""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper

# The first opset with bitwise operators; onnxruntime has had it since version 1.14.
OPSET = 18
_IR_VERSION = 9
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

_TYPES = {
    "float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE,
    "float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16,
    "int8": onnx.TensorProto.INT8, "int16": onnx.TensorProto.INT16,
    "int32": onnx.TensorProto.INT32, "int64": onnx.TensorProto.INT64,
    "uint8": onnx.TensorProto.UINT8, "uint16": onnx.TensorProto.UINT16,
    "uint32": onnx.TensorProto.UINT32, "uint64": onnx.TensorProto.UINT64,
    "bool": onnx.TensorProto.BOOL,
}  # fmt: skip


def type_of(dtype: Any) -> int:
    """ONNX's number of a dtype."""
    return _TYPES[np.dtype(dtype).name]


class Graph:
    """Nodes and initializers, by the names of the tensors they make."""

    def __init__(self) -> None:
        self._nodes: list[tuple[str, tuple[str, ...], list[str], dict[str, Any]]] = []
        self._initializers: dict[str, np.ndarray] = {}
        self._constants: dict[Any, str] = {}
        self._computed: dict[Any, list[str]] = {}
        self._count = 0

    def name(self) -> str:
        """A new name, as short as can be: a file has tens of thousands of them."""
        number, text = self._count, ""
        self._count += 1
        while number or not text:
            number, digit = divmod(number, len(_DIGITS))
            text = _DIGITS[digit] + text
        return text

    def constant(self, value: Any) -> str:
        """The name of an initializer of this value, in the file once."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.name()
            self._initializers[self._constants[key]] = array
        return self._constants[key]

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The name of an operator's only result."""
        return self.nodes(operator, *inputs, num_outputs=1, **attributes)[0]

    def nodes(self, operator: str, *inputs: str, num_outputs: int, **attributes: Any) -> list[str]:
        """The names of an operator's results; what was computed before is not computed again."""
        key = (operator, inputs, num_outputs, repr(sorted(attributes.items())))
        if key not in self._computed:
            outputs = [self.name() for _ in range(num_outputs)]
            self._computed[key] = outputs
            self._nodes.append((operator, inputs, outputs, attributes))
        return self._computed[key]

    def model(
        self,
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Mapping[str, tuple[str, Sequence[int | str]]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The model of what the outputs need.

        Args:
            inputs: shapes of the float32 inputs by name.
            outputs: by name, the tensor that each is and its shape.
            metadata: texts that the file carries.
        """
        needed = {tensor for tensor, _ in outputs.values()}
        kept = []
        for operator, node_inputs, node_outputs, attributes in reversed(self._nodes):
            if needed.intersection(node_outputs):
                needed.update(node_inputs)
                kept.append(helper.make_node(operator, node_inputs, node_outputs, **attributes))
        kept.reverse()
        for name, (tensor, _) in outputs.items():
            kept.append(helper.make_node("Identity", [tensor], [name]))
        graph = helper.make_graph(
            kept,
            "smh_jax",
            [helper.make_tensor_value_info(n, type_of("float32"), s) for n, s in inputs.items()],
            [
                helper.make_tensor_value_info(name, type_of("float32"), shape)
                for name, (_, shape) in outputs.items()
            ],
            [_initializer(n, a) for n, a in self._initializers.items() if n in needed],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return model


def _initializer(name: str, array: np.ndarray) -> onnx.TensorProto:
    if array.dtype == ml_dtypes.bfloat16:
        array = array.view(np.uint16)
        return helper.make_tensor(name, _TYPES["bfloat16"], array.shape, array.tobytes(), raw=True)
    return helper.make_tensor(name, type_of(array.dtype), array.shape, array.tobytes(), raw=True)
