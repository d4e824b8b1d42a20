"""Saving a model in one file, and loading it without any other."""

import base64
import dataclasses
import json
import math
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from smh_jax import methods
from smh_jax.config.files import write_bytes
from smh_jax.manifest import Manifest
from smh_jax.methods.rounding import PRECISIONS
from smh_jax.shipping.artifact import container, layout
from smh_jax.shipping.artifact.artifact import Artifact, ModelSpec
from smh_jax.shipping.artifact.image_files import Preprocessing

# Bounds on what a file may ask for, far beyond any honest one.
_MAX_DESCRIPTION = 2**25
_MAX_WEIGHTS = 2**31 - 1
_MAX_PIXELS = 2**26
_MAX_SPARE_TARGET = 2**20
_MAX_TARGET_SHARE = 64
# Calls of modules while the model is traced twice; a tensor takes two or three of them.
_SPARE_CALLS, _CALLS_PER_TENSOR = 50, 4


def encode(artifact: Artifact, *, compress: bool = False) -> bytes:
    """The bytes of the file that `save` writes.

    Args:
        artifact: the model.
        compress: the whole by zstandard.
    """
    groups = {**artifact.stored, "model_state": dict(artifact.model_state)}
    tensors, leaves = layout.pack(groups)
    method, preprocessing = artifact.method, artifact.preprocessing
    options = {name: getattr(method, name) for name in methods.default_options(method.name)}
    metadata = {
        "model": None if artifact.model is None else dataclasses.asdict(artifact.model),
        "method": {
            "name": method.name,
            "target_size": method.target_size,
            "options": options,
        },
        "precision": artifact.precision,
        "preprocessing": None if preprocessing is None else dataclasses.asdict(preprocessing),
        "accuracy": dict(artifact.accuracy),
        "provenance": dict(artifact.provenance),
        # A tensor's description repeats that of the one before, and compresses tenfold.
        "manifest": _deflate(method.manifest.to_json()),
        "leaves": _deflate(json.dumps(leaves)),
        "class_names": _deflate(json.dumps(artifact.class_names)),
    }
    return container.write(tensors, metadata, compress)


def decode(data: bytes) -> Artifact:
    """The model whose file has these bytes.

    Raises:
        ValueError: see `load`.
    """
    tensors, metadata = container.read(data)
    try:
        return _assemble(tensors, metadata)
    except ValueError as error:
        raise ValueError(f"its metadata do not fit: {error}") from error
    except Exception as error:
        # Whatever else a description that nobody wrote in earnest leads to.
        raise ValueError(
            f"its metadata do not describe a model: {type(error).__name__}: {error}"
        ) from error


def save(
    path: str | os.PathLike[str],
    artifact: Artifact,
    *,
    precision: str | None = None,
    compress: bool = False,
    overwrite: bool = False,
) -> Artifact:
    """Writes a model into one file.

    Args:
        path: of the file.
        artifact: the model.
        precision: at which the pools are stored; None leaves them as they are.
        compress: the whole by zstandard.
        overwrite: whether a file that is there is replaced.

    Returns:
        The model as it was stored.

    Raises:
        ValueError: if the file exists, or for an impossible precision.
    """
    check_new(path, overwrite)
    if precision is not None:
        artifact = artifact.at(precision)
    data = encode(artifact, compress=compress)
    # What was just described has to be readable, before anything is replaced.
    decode(data)
    write_bytes(path, data)
    return artifact


def load(path: str | os.PathLike[str]) -> Artifact:
    """Reads a model that `save` wrote; nothing of the file is ever executed.

    Raises:
        ValueError: if the file is missing, cut off, changed, of another format version, or
            describes what does not fit together.
    """
    try:
        return decode(pathlib.Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a model that can be loaded: {error}") from error


def check_new(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises ValueError if a file may not be written there."""
    path = pathlib.Path(path)
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; choose another name, or overwrite it")
    if not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: {path.parent} is not a folder")


def _assemble(tensors: layout.Tensors, metadata: Mapping[str, Any]) -> Artifact:
    manifest = Manifest.from_json(_inflate(metadata["manifest"]))
    if manifest.num_weights > _MAX_WEIGHTS:
        raise ValueError(f"{manifest.num_weights} weights are more than {_MAX_WEIGHTS}")
    leaves = {
        group: [(name, dtype, tuple(shape)) for name, dtype, shape in described]
        for group, described in json.loads(_inflate(metadata["leaves"])).items()
    }
    method = _method(metadata["method"], manifest, leaves)
    model, state = None, _tree(leaves["model_state"])
    if metadata["model"] is not None:
        model = ModelSpec(**metadata["model"])
        state = _model_state(model, manifest, metadata["preprocessing"])
    groups = {**method.abstract_variables, "model_state": state}
    stored = layout.unpack(tensors, leaves, groups)
    model_state = stored.pop("model_state")
    if metadata["precision"] not in PRECISIONS:
        raise ValueError(f"precision={metadata['precision']!r} is unknown")
    preprocessing = metadata["preprocessing"]
    if preprocessing is not None:
        preprocessing = Preprocessing(**_tuples(preprocessing))
    return Artifact(
        method=method,
        stored=stored,
        model_state=model_state,
        precision=metadata["precision"],
        model=model,
        preprocessing=preprocessing,
        class_names=tuple(map(str, json.loads(_inflate(metadata["class_names"])))),
        accuracy=dict(metadata["accuracy"]),
        provenance=dict(metadata["provenance"]),
    )


def _method(
    described: Mapping[str, Any], manifest: Manifest, leaves: Mapping[str, list[layout.Leaf]]
) -> methods.Method:
    target_size = described["target_size"]
    if target_size is not None:
        # Methods plan for their target size: it must be no fantasy.
        there = sum(math.prod(s) for g in leaves if g != "model_state" for _, _, s in leaves[g])
        if not target_size <= _MAX_TARGET_SHARE * there + _MAX_SPARE_TARGET:
            raise ValueError(f"target_size={target_size} is far beyond the {there} variables there")
    method = methods.create(
        described["name"], manifest, target_size=target_size, **_tuples(described["options"])
    )
    if method.manifest != manifest:
        raise ValueError(f"method {method.name} stores tensors that the manifest has as hashed")
    return method


def _model_state(model: ModelSpec, manifest: Manifest, preprocessing: Any) -> Any:
    """Shapes of the model's other collections, if the manifest describes this model.

    Raises:
        ValueError: if the model has other tensors than the manifest.
    """
    module = model.create()
    shape = tuple(preprocessing["image_shape"]) if preprocessing is not None else None
    if shape is None:
        raise ValueError("a model has to come with the shape of its images")
    if math.prod(shape) > _MAX_PIXELS:
        raise ValueError(f"image_shape={shape} is more than {_MAX_PIXELS} numbers")
    calls, most = 0, _SPARE_CALLS + _CALLS_PER_TENSOR * len(manifest.tensors)

    def count_calls(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > most:
            raise ValueError(f"{model.name} has far more layers than the manifest has tensors")
        return call(*args, **kwargs)

    with nn.intercept_methods(count_calls):
        traced = Manifest.from_model(module, (1, *shape), measure=False)
        if not manifest.same_tensors(traced):
            raise ValueError(f"{model.name} has other tensors than the manifest describes")
        state = jax.eval_shape(
            lambda: module.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)
        )
    return {name: collection for name, collection in state.items() if name != "params"}


def _tree(leaves: list[layout.Leaf]) -> dict[str, Any]:
    """The nested dicts whose leaves are described, in the order of a tree."""
    tree: dict[str, Any] = {}
    for name, dtype, shape in leaves:
        *path, last = name.split("/")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = jax.ShapeDtypeStruct(shape, np.dtype(jnp.dtype(dtype)))
    return tree


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}


def _deflate(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _inflate(text: str) -> str:
    decompressor = zlib.decompressobj()
    data = decompressor.decompress(base64.b64decode(text, validate=True), _MAX_DESCRIPTION)
    if not decompressor.eof:
        raise ValueError(f"a description is cut off, or of more than {_MAX_DESCRIPTION} bytes")
    return data.decode()
