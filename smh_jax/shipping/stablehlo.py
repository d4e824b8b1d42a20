"""The computation as a StableHLO program that JAX alone can load, and other XLA runtimes too."""

import jax
import jax.export

from smh_jax.shipping.artifact.artifact import Artifact
from smh_jax.shipping.artifact.forward import forward, image_batch

PLATFORMS = ("cpu", "cuda", "tpu")


def export(artifact: Artifact, form: str = "on_the_fly") -> bytes:
    """The serialized forward pass, which `jax.export.deserialize` reads back.

    The program takes preprocessed images, float32 [batch, height, width, channels] for any batch,
    and gives logits [batch, classes] on each of `PLATFORMS`. Its constants, of which `forward`
    tells the forms, are inside.
    """
    function, constants = forward(artifact, form)
    constants = jax.device_get(constants)
    program = jax.jit(lambda images: function(constants, images))
    return bytes(jax.export.export(program, platforms=PLATFORMS)(image_batch(artifact)).serialize())
