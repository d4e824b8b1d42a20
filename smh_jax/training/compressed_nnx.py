"""A Flax NNX module whose weights are generated from its own, fewer `nnx.Param`s."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from smh_jax.config.randomness import purpose_key
from smh_jax.methods import Method
from smh_jax.training.compressed import Described
from smh_jax.training.forward import Call


class Compressed(Described, nnx.Module):
    """A module in place of another, called as that one is; to be made by `smh_jax.compress`.

    Its `pools`, `scales` and `stored` are the variables. Batch statistics, random streams and modes
    (`train()`, `eval()`) are those of `base`, a copy of the module without its `nnx.Param`s.
    """

    def __init__(self, model: nnx.Module, method: Method, key: jax.Array, call: Call | None = None):
        """Draws the variables with a key; stored tensors start as they are in the model.

        `call` is how the module is called, without which it cannot be exported.

        Raises:
            ValueError: if a tensor is shared by several layers.
        """
        params = nnx.state(model, nnx.Param)
        variables = method.init(purpose_key(key, "variables"), nnx.to_pure_dict(params))
        for group, tree in variables.items():
            setattr(self, group, nnx.data(jax.tree.map(nnx.Param, tree)))
        self.method = method
        self.call = call
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

    @property
    def collections(self) -> dict[str, Any]:
        """The variables, as 'params', and the rest of the state (batch statistics), if any."""
        leaves = jax.tree.leaves({group: getattr(self, group) for group in self.groups})
        structure = jax.tree.structure(self.method.abstract_variables)
        state = {
            tuple(map(str, path)): variable.get_value()
            for path, variable in nnx.to_flat_state(_split(self.base)[-1])
        }
        rest = {"state": unflatten_dict(state)} if state else {}
        return {"params": jax.tree.unflatten(structure, leaves), **rest}

    @property
    def module(self) -> "Functional":
        """The module itself in evaluation, as a function of its weights and other state."""
        return Functional(self.dense())

    def dense(self) -> nnx.Module:
        """The module itself with its generated weights; the rest of its state is shared."""
        materialized = self.method.materialize(self.collections["params"])
        weights = self.method.manifest.leaves(materialized)
        model = nnx.merge(*nnx.split(self.base))
        for path in self.paths:
            _put(model, path, nnx.Param(weights["/".join(map(str, path))]))
        return model

    def __repr__(self) -> str:
        return self._brief(self.base)


class Functional:
    """An NNX module in evaluation as a pure function, called as a Linen module's `apply` is."""

    def __init__(self, model: nnx.Module):
        """Takes the structure of a module, and the state of its random streams."""
        model = nnx.clone(model)
        model.eval()
        self._graph, self._params, self._streams, self._state = _split(model)

    def apply(self, collections: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """What the module returns.

        Args:
            collections: 'params', the weights, and 'state', if it has any more; trees of dicts.
            *args, **kwargs: of the module.
        """
        params = _replaced(self._params, collections["params"])
        state = _replaced(self._state, collections.get("state", {}))
        return nnx.merge(self._graph, params, self._streams, state)(*args, **kwargs)


def _split(model: nnx.Module) -> tuple[Any, ...]:
    """Structure, weights, random streams, and the rest of the state."""
    return nnx.split(model, nnx.Param, nnx.RngState, ...)


def _replaced(state: nnx.State, values: Mapping[str, Any]) -> nnx.State:
    """The state with other values, a tree of dicts."""
    flat = flatten_dict(values)
    return nnx.from_flat_state(
        (path, variable.replace(flat[tuple(map(str, path))]))
        for path, variable in nnx.to_flat_state(state)
    )


def _put(node: Any, path: tuple[Any, ...], value: Any) -> None:
    """Sets the attribute, or the item of a list or dict, at a path from a module."""
    for key in path[:-1]:
        node = node[key] if isinstance(node, list | dict | nnx.List) else getattr(node, str(key))
    if isinstance(node, list | dict | nnx.List):
        node[path[-1]] = value
    else:
        setattr(node, str(path[-1]), value)
