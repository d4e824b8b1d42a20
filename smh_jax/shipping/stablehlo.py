"""The computation as a StableHLO program that JAX alone can load, and other XLA runtimes too."""

from collections.abc import Sequence

import jax
import jax.export

from smh_jax.shipping.artifact.artifact import Artifact
from smh_jax.shipping.artifact.forward import forward, image_batch

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(
    artifact: Artifact, form: str = "on_the_fly", platforms: Sequence[str] = PLATFORMS
) -> bytes:
    """Serializes the forward pass; `jax.export.deserialize` reads it back.

    The program takes preprocessed images, float32 [batch, height, width, channels] for any batch,
    and gives logits [batch, classes]. Its constants are inside.

    Args:
        artifact: the model.
        form: see `forward`.
        platforms: on which it will run: 'cpu', 'cuda', 'rocm', 'tpu'.
    """
    function, constants = forward(artifact, form)
    constants = jax.device_get(constants)
    program = jax.jit(lambda images: function(constants, images))
    return bytes(jax.export.export(program, platforms=platforms)(image_batch(artifact)).serialize())
