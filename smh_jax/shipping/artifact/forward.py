"""The forward pass of a stored model, as a function that other programs can be given."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.export

from smh_jax.config.names import check_choice
from smh_jax.shipping import on_the_fly
from smh_jax.shipping.artifact.artifact import Artifact, ModelSpec
from smh_jax.training.forward import outputs

FORMS = ("on_the_fly", "unpacked")


def forward(artifact: Artifact, form: str) -> tuple[Callable[..., Any], Any]:
    """The forward pass `function(constants, *inputs)` and its constants, a pytree.

    The form 'on_the_fly' has the stored variables for constants, and generates each layer's weights
    when they are needed; 'unpacked' has all weights for constants.

    Raises:
        ValueError: for another form, or if the artifact does not have its base model.
    """
    check_choice("form", form, FORMS)
    module, call, model_state = artifact.module, artifact.call, dict(artifact.model_state)
    if form == "unpacked":
        unpacked = functools.partial(outputs, module, call)
        return lambda both, *inputs: unpacked(*both, *inputs), (artifact.params, model_state)
    predict = on_the_fly.predict(module, artifact.method, call=call)

    def generated(constants: Any, *inputs: jax.Array) -> Any:
        stored, state = constants
        return predict(artifact.restore(stored), state, *inputs)

    return generated, (artifact.stored, model_state)


def inputs_of(artifact: Artifact) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of the inputs by name; those of our models have a symbol for the batch.

    Raises ValueError if the artifact does not say.
    """
    if not isinstance(artifact.model, ModelSpec):
        return artifact.call.inputs
    if artifact.preprocessing is None:
        raise ValueError("the artifact does not say the shape of its images")
    (batch,) = jax.export.symbolic_shape("batch")
    inputs = artifact.preprocessing
    return {inputs.input_name: jax.ShapeDtypeStruct((batch, *inputs.shape), inputs.dtype)}
