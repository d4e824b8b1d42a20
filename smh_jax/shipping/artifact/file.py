"""A model in one file: its bytes, and the model that bytes describe."""

import dataclasses
import functools
import itertools
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from smh_jax import methods
from smh_jax.config.files import write_bytes
from smh_jax.manifest import Manifest
from smh_jax.methods.rounding import parse
from smh_jax.shipping.artifact import container, layout
from smh_jax.shipping.artifact.artifact import Artifact, ModelSpec, restored, small
from smh_jax.training import adapted, forward, tasks

# Bounds on what a file may ask for, far beyond any honest one.
_MAX_WEIGHTS = 2**31 - 1
_MAX_PIXELS = 2**26
_MAX_SPARE_TARGET = 2**20
_MAX_TARGET_SHARE = 64
# Calls of modules while the model is traced twice; a tensor takes two or three of them.
_SPARE_CALLS, _CALLS_PER_TENSOR = 50, 4


def encode(artifact: Artifact, *, compress: bool = False) -> bytes:
    """The bytes of the file that `save` writes; compressed by zstandard on demand."""
    tensors, leaves = pack(artifact)
    method, model = artifact.method, artifact.model
    options = {name: getattr(method, name) for name in methods.default_options(method.name)}
    metadata = {
        "model": _described_model(model) if isinstance(model, ModelSpec) else None,
        "method": {"name": method.name, "target_size": method.target_size, "options": options},
        "precision": artifact.precision,
        "preprocessing": artifact.preprocessing and _described(artifact.preprocessing),
        "accuracy": dict(artifact.accuracy),
        "provenance": dict(artifact.provenance),
        "manifest": json.loads(method.manifest.to_json()),
        "leaves": leaves,
        "class_names": list(artifact.class_names),
    }
    return container.write(tensors, metadata, compress)


def _described_model(model: ModelSpec) -> dict[str, Any]:
    """Its fields; what is not adapted is as in files from before there were adapters."""
    fields = dataclasses.asdict(model)
    return fields if model.adapted else {n: fields[n] for n in fields if n != "adapted"}


def pack(artifact: Artifact) -> tuple[layout.Tensors, dict[str, list[layout.Leaf]]]:
    """The variables and the model's state as flat tensors, and the description of their leaves."""
    kind, _ = parse(artifact.precision)
    state = dict(artifact.model_state)
    return layout.pack(
        {**artifact.stored, "model_state": small(state) if kind == "coded" else state}
    )


def leaves_of(metadata: Mapping[str, Any]) -> dict[str, list[layout.Leaf]]:
    """The description of leaves that JSON has as lists."""
    return {
        group: [(name, dtype, _shape(shape)) for name, dtype, shape in described]
        for group, described in metadata["leaves"].items()
    }


def _described(preprocessing: tasks.Preprocessing) -> dict[str, Any]:
    """Its fields, and its task where it is not the one that files have had before they said it."""
    fields = dataclasses.asdict(preprocessing)
    is_default = preprocessing.task == tasks.DEFAULT.name
    return fields if is_default else {"task": preprocessing.task, **fields}


def decode(data: bytes, pools: Any = None) -> Artifact:
    """The model whose file has these bytes; for errors see `reading.load`.

    Args:
        data: of the file.
        pools: of a model whose file has none, as they are stored.
    """
    tensors, metadata = container.read(data)
    try:
        return _assemble(tensors, metadata, pools)
    except Exception as error:
        # A hostile description can raise any error.
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"its metadata do not fit: {kind}{error!s:.500}") from error


def save(
    path: str | os.PathLike[str],
    artifact: Artifact,
    *,
    precision: str | None = None,
    compress: bool = False,
    overwrite: bool = False,
) -> Artifact:
    """Writes a model into one file and returns it as it was stored.

    Args:
        path, artifact: of the file; the model.
        precision: at which the pools are stored; None leaves them as they are.
        compress: the whole by zstandard.
        overwrite: whether a file that is there is replaced.

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


def check_new(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises ValueError if a file may not be written there."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; choose another name, or overwrite it")
    if not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: {path.parent} is not a folder")


def _assemble(tensors: layout.Tensors, metadata: Mapping[str, Any], pools: Any) -> Artifact:
    manifest = Manifest.from_json(json.dumps(metadata["manifest"]))
    if manifest.num_weights > _MAX_WEIGHTS:
        raise ValueError(f"{manifest.num_weights} weights are more than {_MAX_WEIGHTS}")
    leaves = leaves_of(metadata)
    method = _method(metadata["method"], manifest, leaves, pools)
    model, preprocessing = metadata["model"], metadata["preprocessing"]
    if preprocessing is not None:
        fields = _tuples(preprocessing)
        task = tasks.of_name(fields.pop("task", tasks.DEFAULT.name))
        preprocessing = task.read_preprocessing(fields)
    if model is None:
        flat = {name: jax.ShapeDtypeStruct(s, jnp.dtype(d)) for name, d, s in leaves["model_state"]}
        state = flax.traverse_util.unflatten_dict(flat, sep="/")
    else:
        model = ModelSpec(**model)
        state = _model_state(model, manifest, preprocessing)
    groups = {**method.abstract_variables, "model_state": state}
    if pools is not None and _shapes(groups.pop("pools")) != _shapes(pools):
        raise ValueError(f"its pools are {_shapes(pools)}")
    stored = layout.unpack(tensors, leaves, groups)
    if pools is not None:
        stored["pools"] = pools
    parse(metadata["precision"])
    return Artifact(
        method=method,
        model_state=restored(stored.pop("model_state"), state),
        stored=stored,
        precision=metadata["precision"],
        model=model,
        preprocessing=preprocessing,
        class_names=tuple(map(str, metadata["class_names"])),
        accuracy=dict(metadata["accuracy"]),
        provenance=dict(metadata["provenance"]),
    )


def _shapes(pools: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in pools.items()}


def _shape(shape: Any) -> tuple[int, ...]:
    # What is not a number would be multiplied, too.
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"shape {shape!s:.100} must be whole numbers of at least 0")
    return tuple(shape)


def _method(
    described: Mapping[str, Any],
    manifest: Manifest,
    leaves: Mapping[str, list[layout.Leaf]],
    pools: Any,
) -> methods.Method:
    target_size = described["target_size"]
    if target_size is not None:
        # Methods plan for their target size: it must be no fantasy.
        there = sum(math.prod(s) for g in leaves if g != "model_state" for _, _, s in leaves[g])
        there += sum(map(math.prod, _shapes(pools or {}).values()))
        if not target_size <= _MAX_TARGET_SHARE * there + _MAX_SPARE_TARGET:
            raise ValueError(f"target_size={target_size} is far beyond the {there} variables there")
    method = methods.create(
        described["name"], manifest, target_size=target_size, **_tuples(described["options"])
    )
    if method.manifest != manifest:
        raise ValueError(f"method {method.name} stores tensors that the manifest has as hashed")
    return method


def _model_state(
    model: ModelSpec, manifest: Manifest, preprocessing: tasks.Preprocessing | None
) -> forward.ModelState:
    """Shapes of the model's other collections, if the manifest describes this model."""
    if preprocessing is None:
        raise ValueError("a model has to come with the shape of its inputs")
    module, shape = model.create(), preprocessing.shape
    if math.prod(shape) > _MAX_PIXELS:
        raise ValueError(f"inputs of {shape} are more than {_MAX_PIXELS} numbers")
    example = jax.ShapeDtypeStruct((1, *shape), preprocessing.dtype)
    most = _SPARE_CALLS + _CALLS_PER_TENSOR * len(manifest.tensors)
    calls = itertools.count(1)

    def count_calls(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if next(calls) > most:
            raise ValueError(f"{model.name} has far more layers than the manifest has tensors")
        return call(*args, **kwargs)

    with nn.intercept_methods(count_calls):
        traced = adapted.manifest_of(module, example, hashed="all", measure=False)
        if not manifest.same_tensors(traced):
            raise ValueError(f"{model.name} has other tensors than the manifest describes")
        init = functools.partial(forward.initial_collections, module, example)
        return jax.eval_shape(init, jax.random.key(0))[1]


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
