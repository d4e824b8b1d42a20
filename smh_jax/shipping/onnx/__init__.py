"""The computation as an ONNX model, translated from JAX's own trace of it.

The pools go into the file as they are stored, once, and no operator on them is carried out ahead of
time: the model that generates its weights stays as small as the artifact.

Ours because jax2onnx 0.17.1 writes no valid model of multi_hash, MobileNetV3 or max pooling, makes
those of other on_the_fly models 2 to 9 times as large, and holds orbax-checkpoint below 0.11.37.
"""

import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from smh_jax.models import jaxprs
from smh_jax.shipping.artifact.artifact import Artifact
from smh_jax.shipping.artifact.forward import forward, inputs_of
from smh_jax.shipping.onnx import contractions, elementwise, structure  # noqa: F401  (register)
from smh_jax.shipping.onnx.folding import fold
from smh_jax.shipping.onnx.graph import Graph, type_of
from smh_jax.shipping.onnx.tensors import TRANSLATIONS, Builder, Tensor

# A known value is stored if it is no larger than what it follows from, or this small.
_SMALL_BYTES = 256


def export(artifact: Artifact, form: str = "on_the_fly") -> bytes:
    """An ONNX model from float32 'images' [batch, height, width, channels] to 'logits'.

    Its images are preprocessed already; `mean`, `stddev`, `crop` and `class_names` are in the
    file's metadata. A model of your own has the inputs of `compress`'s example, 'input0' and so on
    or by their keywords, and outputs called 'output0' and so on, or by their keys.

    Raises:
        ValueError: if the model has an operation without translation, which the message names, or
            the form is not one of `artifact.FORMS`.
    """
    function, constants = forward(artifact, form)
    shapes = inputs_of(artifact)
    program, like = jax.make_jaxpr(function, return_shape=True)(constants, *shapes.values())
    # The symbol of the batch is the first size, if it is one at all.
    name, first = next(iter(shapes.items()))
    builder = Builder(Graph(), (first.shape[0] if first.shape else 1, name))
    # All that is large stays as it is; what is small may be folded.
    inputs = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(constants)):
        is_pool = jax.tree_util.keystr(path[:2]) == "[0]['pools']"
        inputs.append(_initializer(builder, leaf) if is_pool else _known(leaf))
    inputs += [Tensor(name, x.shape, np.dtype(x.dtype)) for name, x in shapes.items()]
    outputs = {}
    results = zip(
        _translate(builder, program, inputs), program.out_avals, _names(like), strict=True
    )
    for result, aval, name in results:
        result = builder.whole(result, aval.shape)
        outputs[name] = (builder.of(result), *_typed(result.dtype, result.dims))
    metadata = {"class_names": json.dumps(artifact.class_names, separators=(",", ":"))}
    if artifact.preprocessing is not None:
        metadata["preprocessing"] = json.dumps(artifact.preprocessing.about)
    typed = {name: _typed(x.dtype, x.shape) for name, x in shapes.items()}
    return builder.graph.model(typed, outputs, metadata).SerializeToString()


def _names(outputs: Any) -> list[str]:
    """Names of the leaves of what a model gives."""
    if isinstance(outputs, jax.ShapeDtypeStruct):
        return ["logits"]
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(outputs)]
    names = [jax.tree_util.keystr(path, simple=True, separator="_") for path in paths]
    return [f"output{name}" if name.isdecimal() else name for name in names]


def _typed(dtype: Any, dims: Sequence[Any]) -> tuple[Any, list[int | str]]:
    """Dtype and shape of an input or output, a symbol by its name."""
    return dtype, [size if isinstance(size, int) else str(size) for size in dims]


def _known(value: Any, **how: Any) -> Tensor:
    array = np.asarray(value)
    return Tensor(array, array.shape, array.dtype, **how)


def _initializer(builder: Builder, value: Any) -> Tensor:
    """A value of which the translation knows no more than shape and dtype."""
    array = np.asarray(value)
    name = builder.graph.constant(array)
    if array.dtype == jnp.bfloat16:
        # Stored in half the bytes, computed with in float32.
        name = builder.graph.node("Cast", name, to=type_of(np.float32))
    return Tensor(name, array.shape, array.dtype)


def _translate(builder: Builder, program: ClosedJaxpr, inputs: list[Tensor]) -> list[Tensor]:
    """The results of a program, whose equations become operators of the graph."""

    def rule(equation: JaxprEqn, operands: list[Any]) -> list[Tensor]:
        tensors = [
            x if isinstance(x, Tensor) else _known(np.asarray(x, atom.aval.dtype))
            for x, atom in zip(operands, equation.invars, strict=True)
        ]
        if (inner := jaxprs.called_program(equation)) is not None:
            return jaxprs.evaluate(inner, tensors, rule)
        folded = None
        # A broadcast of something known costs nothing.
        if equation.primitive.name != "broadcast_in_dim" and all(x.is_known for x in tensors):
            folded = fold(equation, [x.data for x in tensors])
        if folded is None:
            return _operators(builder, equation, tensors)
        if sum(x.nbytes for x in folded) <= max(_SMALL_BYTES, *(x.data.nbytes for x in tensors), 0):
            return [_known(x) for x in folded]
        return [
            _known(x, compute=lambda i=i: _operators(builder, equation, tensors)[i])
            for i, x in enumerate(folded)
        ]

    return jaxprs.evaluate(program, inputs, rule)


def _operators(builder: Builder, equation: JaxprEqn, operands: list[Tensor]) -> list[Tensor]:
    """The results of an equation's translation."""
    name = equation.primitive.name
    try:
        if name not in TRANSLATIONS:
            raise ValueError("it is not in smh_jax/shipping/onnx")
        results = TRANSLATIONS[name](builder, equation, *operands)
    except ValueError as error:
        raise ValueError(
            f"the model's operation {name!r} has no translation to ONNX: {error}"
        ) from error
    return results if isinstance(results, list) else [results]
