"""An ONNX graph under construction: every constant and every computation in it once."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

try:
    import onnx
except ModuleNotFoundError as error:
    raise ValueError(f"{error}; install it with: pip install 'smh_jax[onnx]'") from error

# The first opset with bitwise operators; onnxruntime has had it since version 1.14.
OPSET = 18
_IR_VERSION = 9


def type_of(dtype: Any) -> int:
    """ONNX's number of a dtype."""
    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


class Graph:
    """Nodes and initializers, by the names of the tensors they make."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._constants: dict[Any, str] = {}
        self._computed: dict[Any, list[str]] = {}
        # Short because a file has thousands of them.
        self._names = map("{:x}".format, itertools.count(1))

    def constant(self, value: Any) -> str:
        """The name of an initializer of this value, in the file once."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = next(self._names)
            self._initializers.append(onnx.numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The name of an operator's only result."""
        return self.nodes(operator, *inputs, num_outputs=1, **attributes)[0]

    def nodes(self, operator: str, *inputs: str, num_outputs: int, **attributes: Any) -> list[str]:
        """The names of an operator's results; what was computed before is not computed again."""
        key = (operator, inputs, num_outputs, repr(sorted(attributes.items())))
        if key not in self._computed:
            names = self._computed[key] = list(itertools.islice(self._names, num_outputs))
            self._nodes.append(onnx.helper.make_node(operator, inputs, names, **attributes))
        return self._computed[key]

    def model(
        self,
        inputs: Mapping[str, tuple[Any, Sequence[int | str]]],
        outputs: Mapping[str, tuple[str, Any, Sequence[int | str]]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The model of what the outputs need.

        `inputs` are dtypes and shapes of the inputs by name, and `outputs`, by name, the tensor
        that each is, its dtype and its shape; `metadata` are texts that the file carries.
        """
        needed = {tensor for tensor, *_ in outputs.values()}
        kept = []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        identities = [
            onnx.helper.make_node("Identity", [tensor], [name])
            for name, (tensor, *_) in outputs.items()
        ]
        graph = onnx.helper.make_graph(
            kept[::-1] + identities,
            "smh_jax",
            [_value(name, *described) for name, described in inputs.items()],
            [_value(name, *described) for name, (_, *described) in outputs.items()],
            [initializer for initializer in self._initializers if initializer.name in needed],
        )
        opset = onnx.helper.make_opsetid("", OPSET)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
        onnx.helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model


def _value(name: str, dtype: Any, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    # The graph computes in float32 what is bfloat16 in the traced program.
    dtype = np.float32 if np.dtype(dtype).name == "bfloat16" else dtype
    return onnx.helper.make_tensor_value_info(name, type_of(dtype), shape)
