"""From variables to logits: the one place that composes a method with a base model.

Training, evaluation, artifacts, exports and inference on the fly all come through here. A model's
state is its collections but 'params', such as its batch statistics.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.manifest import Params
from smh_jax.methods import Method, Variables

ModelState = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """How a model is called: with arrays, its inputs, and with other arguments, which are fixed.

    Attributes:
        leaves: of the positional and the keyword arguments; arrays by their shapes and dtypes.
        structure: of both.
    """

    leaves: tuple[Any, ...]
    structure: jax.tree_util.PyTreeDef

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> "Call":
        """The call with these arguments, or others of the same shapes and dtypes."""
        leaves, structure = jax.tree.flatten((args, kwargs))
        is_array = [hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves]
        abstract = (
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if array else leaf
            for leaf, array in zip(leaves, is_array, strict=True)
        )
        return cls(tuple(abstract), structure)

    @property
    def inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the inputs in their order, by name: 'input0', or the keyword's."""
        arguments = jax.tree.unflatten(self.structure, self.leaves)
        named = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(arguments):
            if isinstance(leaf, jax.ShapeDtypeStruct):
                name = jax.tree_util.keystr(path[1:], simple=True, separator="_")
                named[f"input{name}" if path[0].idx == 0 else name] = leaf
        return named

    def arguments(self, inputs: Sequence[jax.Array]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the keyword arguments with these inputs."""
        arrays = iter(inputs)
        leaves = [next(arrays) if isinstance(x, jax.ShapeDtypeStruct) else x for x in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)


# Of our own models in evaluation; shape and dtype say nothing.
OURS = Call.of(jax.ShapeDtypeStruct((), jnp.float32), train=False)


def outputs(
    model: Any, call: Call, params: Params, model_state: ModelState, *inputs: jax.Array
) -> Any:
    """What the model makes of the inputs of a call; of our own models logits [batch, ..., classes].

    The model is a Linen module, or anything else with such an `apply`.
    """
    args, kwargs = call.arguments(inputs)
    return model.apply({"params": params, **model_state}, *args, **kwargs)


def logits_of_params(
    model: nn.Module, params: Params, model_state: ModelState, inputs: jax.Array
) -> jax.Array:
    """Logits [batch, ..., classes] in evaluation, of inputs [batch, ...]."""
    return outputs(model, OURS, params, model_state, inputs)


def logits(
    model: nn.Module,
    method: Method,
    variables: Variables,
    model_state: ModelState,
    inputs: jax.Array,
) -> jax.Array:
    """`logits_of_params` of the weights that the method makes of its variables."""
    return logits_of_params(model, method.materialize(variables), model_state, inputs)


def training_logits(
    model: nn.Module,
    params: Params,
    model_state: ModelState,
    inputs: jax.Array,
    dropout_key: jax.Array,
) -> tuple[jax.Array, ModelState]:
    """Logits [batch, ..., classes] in training, and those collections of its state that change."""
    logits, next_state = model.apply(
        {"params": params, **model_state},
        inputs,
        train=True,
        mutable=list(model_state),
        rngs={"dropout": dropout_key},
    )
    return logits, dict(next_state)


def initial_collections(
    model: nn.Module, example: jax.ShapeDtypeStruct | tuple[int, ...], key: jax.Array
) -> tuple[Params, ModelState]:
    """The params and the state that the model's own `init` gives.

    Args:
        model: is called as `model(inputs, train=False)`.
        example: shape and dtype of one batch of inputs; of images, which are float32, the shape.
        key: of all its draws.
    """
    if isinstance(example, tuple):
        example = jax.ShapeDtypeStruct(example, jnp.float32)
    inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), example)
    collections = dict(model.init({"params": key, "dropout": key}, inputs, train=False))
    return collections.pop("params"), collections
