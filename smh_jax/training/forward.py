"""From variables to logits: the one place that composes a method with a base model.

Training, evaluation, artifacts, exports and inference on the fly all come through here. A model's
state is its collections but 'params', such as its batch statistics.
"""

from typing import Any

import flax.linen as nn
import jax

from smh_jax.manifest import Params
from smh_jax.methods import Method, Variables

ModelState = dict[str, Any]


def logits_of_params(
    model: nn.Module, params: Params, model_state: ModelState, images: jax.Array
) -> jax.Array:
    """Logits [batch, classes] in evaluation, of images [batch, height, width, channels]."""
    return model.apply({"params": params, **model_state}, images, train=False)


def logits(
    model: nn.Module,
    method: Method,
    variables: Variables,
    model_state: ModelState,
    images: jax.Array,
) -> jax.Array:
    """`logits_of_params` of the weights that the method makes of its variables."""
    return logits_of_params(model, method.materialize(variables), model_state, images)


def training_logits(
    model: nn.Module,
    params: Params,
    model_state: ModelState,
    images: jax.Array,
    dropout_key: jax.Array,
) -> tuple[jax.Array, ModelState]:
    """Logits [batch, classes] in training, and the model's next state."""
    outputs, next_state = model.apply(
        {"params": params, **model_state},
        images,
        train=True,
        mutable=list(model_state),
        rngs={"dropout": dropout_key},
    )
    return outputs, dict(next_state)


def initial_collections(
    model: nn.Module, input_shape: tuple[int, ...], key: jax.Array
) -> tuple[Params, ModelState]:
    """The params and the state that the model's own `init` gives.

    Args:
        model: is called as `model(images, train=False)`.
        input_shape: of one batch of images, batch dimension included.
        key: of all its draws.
    """
    images = jax.numpy.zeros(input_shape, jax.numpy.float32)
    collections = dict(model.init({"params": key, "dropout": key}, images, train=False))
    return collections.pop("params"), collections
