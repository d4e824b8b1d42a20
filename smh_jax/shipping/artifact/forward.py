"""The forward pass of a stored model, as a function that other programs can be given."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from smh_jax.config.names import check_choice
from smh_jax.shipping import on_the_fly
from smh_jax.shipping.artifact.artifact import Artifact
from smh_jax.training.forward import logits_of_params

FORMS = ("on_the_fly", "unpacked")


def forward(artifact: Artifact, form: str) -> tuple[Callable[..., jax.Array], Any]:
    """The forward pass `function(constants, images)` and its constants, a pytree.

    The form 'on_the_fly' has the stored variables for constants, and generates each layer's weights
    when they are needed; 'unpacked' has all weights for constants.

    Raises:
        ValueError: for another form, or if the base model is not one of this project's.
    """
    check_choice("form", form, FORMS)
    model_state = dict(artifact.model_state)
    if form == "unpacked":
        unpacked = functools.partial(logits_of_params, artifact.module)
        return lambda both, images: unpacked(*both, images), (artifact.params, model_state)
    predict = on_the_fly.predict(artifact.module, artifact.method)

    def generated(constants: Any, images: jax.Array) -> jax.Array:
        stored, state = constants
        return predict(artifact.restore(stored), state, images)

    return generated, (artifact.stored, model_state)


def image_batch(artifact: Artifact) -> jax.ShapeDtypeStruct:
    """Shape [batch, height, width, channels], with a symbol for the batch, and dtype of its images.

    Raises ValueError if the artifact does not say.
    """
    if artifact.preprocessing is None:
        raise ValueError("the artifact does not say the shape of its images")
    (batch,) = jax.export.symbolic_shape("batch")
    return jax.ShapeDtypeStruct((batch, *artifact.preprocessing.image_shape), jnp.float32)
