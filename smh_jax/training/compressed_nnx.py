"""A Flax NNX module whose weights are generated from its own, fewer `nnx.Param`s."""

from typing import Any

import jax
from flax import nnx

from smh_jax.config.randomness import purpose_key
from smh_jax.methods import Method
from smh_jax.training.compressed import Described


class Compressed(Described, nnx.Module):
    """A module in place of another, called as that one is; to be made by `smh_jax.compress`.

    Its `pools`, `scales` and `stored` are the variables. Batch statistics, random streams and modes
    (`train()`, `eval()`) are those of `base`, a copy of the module without its `nnx.Param`s.
    """

    def __init__(self, model: nnx.Module, method: Method, key: jax.Array):
        """Draws the variables with a key; stored tensors start as they are in the model.

        Raises:
            ValueError: if a tensor is shared by several layers.
        """
        params = nnx.state(model, nnx.Param)
        variables = method.init(purpose_key(key, "variables"), nnx.to_pure_dict(params))
        for group, tree in variables.items():
            setattr(self, group, nnx.data(jax.tree.map(nnx.Param, tree)))
        self.method = method
        self.groups = tuple(variables)
        self.paths = tuple(path for path, _ in nnx.to_flat_state(params))
        self.base = nnx.clone(model)
        for path in self.paths:
            _put(self.base, path, None)
        for path, _ in nnx.to_flat_state(nnx.state(self.base, nnx.Param)):
            raise ValueError(f"{'/'.join(map(str, path))} is another layer's tensor as well")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module itself returns; its state changes as it does there."""
        return self.dense()(*args, **kwargs)

    def dense(self) -> nnx.Module:
        """The module itself with its generated weights; the rest of its state is shared."""
        leaves = jax.tree.leaves({group: getattr(self, group) for group in self.groups})
        structure = jax.tree.structure(self.method.abstract_variables)
        variables = jax.tree.unflatten(structure, leaves)
        weights = self.method.manifest.leaves(self.method.materialize(variables))
        model = nnx.merge(*nnx.split(self.base))
        for path in self.paths:
            _put(model, path, nnx.Param(weights["/".join(map(str, path))]))
        return model

    def __repr__(self) -> str:
        return self._brief(self.base)


def _put(node: Any, path: tuple[Any, ...], value: Any) -> None:
    """Sets the attribute, or the item of a list or dict, at a path from a module."""
    for key in path[:-1]:
        node = node[key] if isinstance(node, list | dict | nnx.List) else getattr(node, str(key))
    if isinstance(node, list | dict | nnx.List):
        node[path[-1]] = value
    else:
        setattr(node, str(path[-1]), value)
