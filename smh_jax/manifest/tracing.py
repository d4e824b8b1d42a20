"""The tensors of a model, read from the trace of its `init`; nothing of it is run."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta

from smh_jax.manifest import init_program, initial_values
from smh_jax.manifest.tensor import Path, Tensor


def of_linen(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], measure: bool
) -> list[Tensor]:
    """The tensors of a Flax linen module; see `Manifest.from_model`."""
    layers: dict[Path, str] = {}

    def record_layer(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layers[context.module.path] = _layer_kind(context.module)
        return call(*args, **kwargs)

    def init(key: jax.Array) -> Any:
        filled_args, filled_kwargs = jax.tree.map(_zeros, (args, dict(kwargs)))
        rngs = {"params": key, "dropout": key}
        with nn.intercept_methods(record_layer):
            return model.init(rngs, *filled_args, **filled_kwargs).get("params", {})

    return trace(init, measure, layers, type(model).__name__)


def trace(
    init: Callable[[jax.Array], Any],
    measure: bool,
    layers: Mapping[Path, str] = MappingProxyType({}),
    name: str = "the model",
) -> list[Tensor]:
    """The tensors that a function of a key makes, in order of creation, none of them hashed.

    Args:
        init: gives a pytree of arrays.
        measure: see `Manifest.from_model`.
        layers: the kind of the layer at each path, once `init` has been called.
        name: of the model, for errors.
    """
    paths: list[Path] = []

    def flat_init(key: jax.Array) -> list[jax.Array]:
        # The order is read here, inside the trace: a dict that leaves it comes back sorted.
        leaves = list(walk(init(key)))
        for path, leaf in leaves:
            if not hasattr(leaf, "dtype"):
                raise ValueError(f"{name} has {'/'.join(path)} = {leaf!r}, which is not an array")
            paths.append(path)
        return [leaf for _, leaf in leaves]

    program = init_program.trace(flat_init)
    if not paths:
        raise ValueError(f"{name} has no trainable tensor")
    names = Counter(map("/".join, paths))
    if len(names) < len(paths):
        raise ValueError(
            f"{name} has {len(paths) - len(names) + 1} tensors called "
            f"{names.most_common(1)[0][0]!r}: a parameter's own name must have no '/'"
        )
    initial = [initial_values.UNKNOWN] * len(paths)
    if measure:
        initial = initial_values.measure(program)
    return [
        Tensor(path, aval.shape, aval.dtype.name, layers.get(path[:-1], ""), False, "", values)
        for path, aval, values in zip(paths, program.out_avals, initial, strict=True)
    ]


def walk(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The leaves of a pytree by path, out of Flax's boxes; dicts, which JAX sorts, in their order.

    It calls a key of a dict, an index and an attribute by what `jax.tree_util.keystr` calls them.
    """
    if isinstance(tree, meta.AxisMetadata):
        tree = meta.unbox(tree)
    if isinstance(tree, Mapping):
        children = [((str(key),), child) for key, child in tree.items()]
    else:
        level = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: node is not tree)
        children = [
            (tuple(jax.tree_util.keystr([k], simple=True) for k in ks), x) for ks, x in level
        ]
    for keys, child in children:
        if keys:
            yield from walk(child, path + keys)
        else:
            yield path, child


def _zeros(leaf: Any) -> Any:
    """An example argument to call a model with: zeros for a shape and dtype alone."""
    return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def _layer_kind(module: nn.Module) -> str:
    if isinstance(module, nn.BatchNorm):
        return "batch_norm"
    if isinstance(module, nn.Conv | nn.ConvLocal | nn.ConvTranspose):
        return "conv"
    if isinstance(module, nn.Dense | nn.DenseGeneral):
        return "dense"
    return type(module).__name__
