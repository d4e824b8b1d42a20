"""The tensors of a Flax linen model, read from the trace of its `init`; nothing of it is run."""

from collections import Counter
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from flax.traverse_util import flatten_dict

from smh_jax.manifest import init_program, initial_values
from smh_jax.manifest.tensor import Path, Tensor


def trace(model: nn.Module, input_shape: tuple[int, ...], measure: bool) -> list[Tensor]:
    """The model's tensors in order of creation, none of them hashed; see `Manifest.from_model`."""
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
        leaves = flatten_dict(variables.get("params", {}))
        paths.extend(leaves)
        return [meta.unbox(leaf) for leaf in leaves.values()]

    program = init_program.trace(init)
    if not paths:
        raise ValueError(f"{type(model).__name__} has no trainable tensor")
    names = Counter(map("/".join, paths))
    if len(names) < len(paths):
        raise ValueError(
            f"{type(model).__name__} has {len(paths) - len(names) + 1} tensors called "
            f"{names.most_common(1)[0][0]!r}: a parameter's own name must have no '/'"
        )
    initial = [initial_values.UNKNOWN] * len(paths)
    if measure:
        initial = initial_values.measure(program)
    return [
        Tensor(path, aval.shape, aval.dtype.name, layers.get(path[:-1], ""), False, "", values)
        for path, aval, values in zip(paths, program.out_avals, initial, strict=True)
    ]


def _layer_kind(module: nn.Module) -> str:
    if isinstance(module, nn.BatchNorm):
        return "batch_norm"
    if isinstance(module, nn.Conv | nn.ConvLocal | nn.ConvTranspose):
        return "conv"
    if isinstance(module, nn.Dense | nn.DenseGeneral):
        return "dense"
    return type(module).__name__
