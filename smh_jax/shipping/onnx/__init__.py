"""The computation as an ONNX model, translated from JAX's own trace of it.

The pools go into the file as they are stored, once, and no operator on them is carried out ahead of
time: the model that generates its weights stays as small as the artifact.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from smh_jax.shipping.artifact.artifact import Artifact
from smh_jax.shipping.artifact.forward import forward, image_batch
from smh_jax.shipping.onnx import contractions, elementwise, structure  # noqa: F401  (register)
from smh_jax.shipping.onnx.graph import Graph, type_of
from smh_jax.shipping.onnx.tensors import TRANSLATIONS, Builder, Tensor

INPUT, OUTPUT = "images", "logits"
# Equations that call an inner program.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat2",
          "checkpoint")  # fmt: skip
# What follows from known values alone is computed while translating, up to this many bytes. It is
# stored if it is no larger than they are, or this small.
_MAX_KNOWN, _SMALL = 2**20, 256


def export(artifact: Artifact, form: str = "on_the_fly") -> bytes:
    """An ONNX model from float32 'images' [batch, height, width, channels] to 'logits'.

    Its images are preprocessed already; `mean`, `stddev`, `crop` and `class_names` are in the
    file's metadata.

    Args:
        artifact: the model.
        form: 'on_the_fly' or 'unpacked'; see `smh_jax.shipping.artifact.forward.forward`.

    Raises:
        ValueError: if the model has an operation that has no translation; the message names it.
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
    (logits,) = _run(builder, program.jaxpr, [_known(c) for c in program.consts], inputs)
    (out,) = program.jaxpr.outvars
    logits = builder.whole(logits, out.aval.shape)
    preprocessing = artifact.preprocessing
    model = builder.graph.model(
        {INPUT: ("batch", *shape)},
        {OUTPUT: (builder.of(logits), ("batch", *logits.dims[1:]))},
        {
            "class_names": json.dumps(artifact.class_names, separators=(",", ":")),
            "preprocessing": json.dumps(
                {"mean": preprocessing.mean, "stddev": preprocessing.stddev,
                 "crop": preprocessing.crop}
            ),
        },
    )  # fmt: skip
    return model.SerializeToString()


def _known(value: Any) -> Tensor:
    array = np.asarray(value)
    return Tensor(array, array.shape, array.dtype)


def _initializer(builder: Builder, value: Any) -> Tensor:
    """A value of which the translation knows no more than shape and dtype."""
    array = np.asarray(value)
    name = builder.graph.constant(array)
    if array.dtype == jnp.bfloat16:
        # Stored in half the bytes, computed with in float32.
        name = builder.graph.node("Cast", name, to=type_of(np.float32))
    return Tensor(name, array.shape, array.dtype)


def _run(
    builder: Builder, jaxpr: Jaxpr, consts: Sequence[Tensor], inputs: Sequence[Tensor]
) -> list[Tensor]:
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def read(atom: Any) -> Tensor:
        if isinstance(atom, Literal):
            return _known(np.asarray(atom.val, atom.aval.dtype))
        return values[atom]

    for equation in _needed(jaxpr):
        operands = [read(atom) for atom in equation.invars]
        values.update(zip(equation.outvars, _results(builder, equation, operands), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The equations that the results follow from; a trace also holds others."""
    needed = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
            kept.append(equation)
    return kept[::-1]


def _results(builder: Builder, equation: JaxprEqn, operands: list[Tensor]) -> list[Tensor]:
    name = equation.primitive.name
    if name in _CALLS:
        params = equation.params
        inner = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
        if isinstance(inner, ClosedJaxpr):
            return _run(builder, inner.jaxpr, [_known(c) for c in inner.consts], operands)
        return _run(builder, inner, (), operands)

    def translate() -> list[Tensor]:
        if name not in TRANSLATIONS:
            raise ValueError(f"the model's operation {name!r} has no translation to ONNX")
        try:
            results = TRANSLATIONS[name](builder, equation, *operands)
        except ValueError as error:
            raise ValueError(
                f"the model's operation {name!r} has no translation to ONNX: {error}"
            ) from error
        return results if isinstance(results, list) else [results]

    folded = _fold(builder, equation, operands)
    if folded is None:
        return translate()
    if sum(x.data.nbytes for x in folded) > max(_SMALL, *(x.data.nbytes for x in operands), 0):
        return [x._replace(compute=lambda i=i: translate()[i]) for i, x in enumerate(folded)]
    return folded


def _fold(builder: Builder, equation: JaxprEqn, operands: list[Tensor]) -> list[Tensor] | None:
    """The results of an equation whose operands are known, if they are not large."""
    if equation.primitive.name == "broadcast_in_dim" or not all(x.is_known for x in operands):
        return None
    shapes = [tuple(v.aval.shape) for v in (*equation.invars, *equation.outvars)]
    if not all(isinstance(size, int) for shape in shapes for size in shape):
        return None
    size = sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in equation.outvars)
    largest = max((x.data.nbytes for x in operands), default=0)
    if size > max(_MAX_KNOWN, largest):
        return None
    whole = [np.broadcast_to(x.data, shape) for x, shape in zip(operands, shapes, strict=False)]
    parameters = equation.primitive.get_bind_params(equation.params)
    results = equation.primitive.bind(*map(jnp.asarray, whole), **parameters)
    if not equation.primitive.multiple_results:
        results = [results]
    return [_known(result) for result in results]
