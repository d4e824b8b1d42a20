"""The tensors of a Flax NNX module, which has its initial values already: they are measured."""

from typing import Any

from flax import nnx

from smh_jax.manifest import initial_values
from smh_jax.manifest.tensor import Tensor

# By the nearest of a layer's classes.
_KINDS = {
    nnx.BatchNorm: "batch_norm",
    nnx.Conv: "conv",
    nnx.ConvTranspose: "conv",
    nnx.Linear: "dense",
    nnx.LinearGeneral: "dense",
}


def tensors(model: nnx.Module) -> list[Tensor]:
    """Its `nnx.Param`s in the order in which their attributes were set, none of them hashed.

    Raises:
        ValueError: if it has none.
    """
    described = []
    for path, param in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        node, position = model, []
        for key in path:
            owner, children = node, _children(node)
            position.append(list(children).index(str(key)))
            node = children[str(key)]
        value = param.get_value()
        kinds = [kind for layer, kind in _KINDS.items() if isinstance(owner, layer)]
        tensor = Tensor(
            path=tuple(map(str, path)),
            shape=value.shape,
            dtype=value.dtype.name,
            layer=[*kinds, type(owner).__name__][0],
            hashed=False,
            reason="",
            initial=initial_values.of_values(value),
        )
        described.append((position, tensor))
    if not described:
        raise ValueError(f"{type(model).__name__} has no trainable tensor")
    return [tensor for _, tensor in sorted(described, key=lambda pair: pair[0])]


def _children(node: Any) -> dict[str, Any]:
    """What a module or a container holds, in the order in which it was put there."""
    if isinstance(node, list | tuple):
        return {str(index): child for index, child in enumerate(node)}
    return {
        str(key): child for key, child in (node if isinstance(node, dict) else vars(node)).items()
    }
