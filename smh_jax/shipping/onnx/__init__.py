"""The computation as an ONNX model, translated from JAX's own trace of it.

The pools go into the file as they are stored, once, and no operator on them is carried out ahead of
time: the model that generates its weights stays as small as the artifact.

Ours because jax2onnx 0.17.1 writes no valid model of multi_hash, MobileNetV3 or max pooling, makes
those of other on_the_fly models 2 to 9 times as large, and holds orbax-checkpoint below 0.11.37.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from smh_jax.models import jaxprs
from smh_jax.shipping.artifact.artifact import Artifact
from smh_jax.shipping.artifact.forward import forward, image_batch
from smh_jax.shipping.onnx import contractions, elementwise, structure  # noqa: F401  (register)
from smh_jax.shipping.onnx.folding import fold
from smh_jax.shipping.onnx.graph import Graph, type_of
from smh_jax.shipping.onnx.tensors import TRANSLATIONS, Builder, Tensor

INPUT, OUTPUT = "images", "logits"
# A known value is stored if it is no larger than what it follows from, or this small.
_SMALL_BYTES = 256


def export(artifact: Artifact, form: str = "on_the_fly") -> bytes:
    """An ONNX model from float32 'images' [batch, height, width, channels] to 'logits'.

    Its images are preprocessed already; `mean`, `stddev`, `crop` and `class_names` are in the
    file's metadata.

    Raises:
        ValueError: if the model has an operation without translation, which the message names, or
            the form is not one of `artifact.FORMS`.
    """
    function, constants = forward(artifact, form)
    images = image_batch(artifact)
    batch, *shape = images.shape
    program = jax.make_jaxpr(function)(constants, images)
    builder = Builder(Graph(), (batch, INPUT))
    # All that is large stays as it is; what is small may be folded.
    inputs = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(constants)):
        is_pool = jax.tree_util.keystr(path[:2]) == "[0]['pools']"
        inputs.append(_initializer(builder, leaf) if is_pool else _known(leaf))
    inputs.append(Tensor(INPUT, (batch, *shape), np.dtype(np.float32)))
    (logits,) = _translate(builder, program, inputs)
    logits = builder.whole(logits, program.out_avals[0].shape)
    preprocessing = {
        name: getattr(artifact.preprocessing, name) for name in ("mean", "stddev", "crop")
    }
    metadata = {
        "class_names": json.dumps(artifact.class_names, separators=(",", ":")),
        "preprocessing": json.dumps(preprocessing),
    }
    outputs = {OUTPUT: (builder.of(logits), ("batch", *logits.dims[1:]))}
    return builder.graph.model({INPUT: ("batch", *shape)}, outputs, metadata).SerializeToString()


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
