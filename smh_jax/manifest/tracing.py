"""The tensors of a Flax linen model, read from the trace of its `init`; nothing of it is run."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta

from smh_jax.manifest import init_program, initial_values
from smh_jax.manifest.tensor import Params, Path, Tensor


def trace(model: nn.Module, input_shape: tuple[int, ...], measure: bool) -> list[Tensor]:
    """The model's tensors in order of creation, none of them hashed.

    Args:
        model, input_shape, measure: see `Manifest.from_model`.

    Raises:
        ValueError: if the model has no trainable tensor, or two of one name.
    """
    layers: dict[Path, str] = {}
    paths: list[Path] = []

    def record_layer(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layers[context.module.path] = _layer_kind(context.module)
        return call(*args, **kwargs)

    def init(key: jax.Array) -> list[jax.Array]:
        images = jnp.zeros(input_shape, jnp.float32)
        with nn.intercept_methods(record_layer):
            variables = model.init({"params": key, "dropout": key}, images, train=False)
        # The order is read here, inside the trace: a dict that leaves it comes back sorted.
        leaves = _leaves(variables.get("params", {}))
        paths.extend(leaves)
        return list(leaves.values())

    program = init_program.trace(init)
    if not paths:
        raise ValueError(f"{type(model).__name__} has no trainable tensor")
    tensors = [
        Tensor(
            path=path,
            shape=aval.shape,
            dtype=aval.dtype.name,
            layer=layers.get(path[:-1], ""),
            hashed=False,
            reason="",
            initial=initial_values.UNKNOWN,
        )
        for path, aval in zip(paths, program.out_avals, strict=True)
    ]
    names = Counter(tensor.name for tensor in tensors)
    if len(names) < len(tensors):
        raise ValueError(
            f"{type(model).__name__} has {names.total() - len(names) + 1} tensors called "
            f"{names.most_common(1)[0][0]!r}: a parameter's own name must have no '/'"
        )
    if measure:
        measured = initial_values.measure(program)
        tensors = [
            dataclasses.replace(tensor, initial=initial)
            for tensor, initial in zip(tensors, measured, strict=True)
        ]
    return tensors


def _leaves(tree: Params, path: Path = ()) -> dict[Path, Any]:
    leaves: dict[Path, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _leaves(value, (*path, key))
        else:
            leaves[(*path, key)] = meta.unbox(value)
    return leaves


def _layer_kind(module: nn.Module) -> str:
    if isinstance(module, nn.BatchNorm):
        return "batch_norm"
    if isinstance(module, nn.Conv | nn.ConvLocal | nn.ConvTranspose):
        return "conv"
    if isinstance(module, nn.Dense | nn.DenseGeneral):
        return "dense"
    return type(module).__name__
