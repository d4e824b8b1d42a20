"""The computation as a StableHLO program that JAX alone can load, and other XLA runtimes too."""

import jax
import jax.export

from smh_jax.shipping.artifact.artifact import Artifact
from smh_jax.shipping.artifact.forward import forward, inputs_of

PLATFORMS = ("cpu", "cuda", "tpu")


def export(artifact: Artifact, form: str = "on_the_fly") -> bytes:
    """The serialized forward pass, which `jax.export.deserialize` reads back.

    The program takes preprocessed images, float32 [batch, height, width, channels] for any batch,
    and gives logits [batch, classes] on each of `PLATFORMS`; that of a model of your own takes and
    gives what `compress`'s example had. Its constants, of which `forward` tells the forms, are
    inside.
    """
    function, constants = forward(artifact, form)
    constants = jax.device_get(constants)
    program = jax.jit(lambda *inputs: function(constants, *inputs))
    exported = jax.export.export(program, platforms=PLATFORMS)(*inputs_of(artifact).values())
    return bytes(exported.serialize())
