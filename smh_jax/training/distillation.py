"""Learning from another model's logits (Hinton, Vinyals and Dean 2015, arXiv:1503.02531)."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class Distillation:
    """What a step knows of its teacher beside the weights.

    Attributes:
        model: the teacher, applied as in evaluation to the images that the student sees.
        temperature: T, by which both models' logits are divided.
        weight: share of the teacher in the loss; the rest is that of the labels.
    """

    model: nn.Module
    temperature: float
    weight: float

    def mix(
        self, loss: jax.Array, logits: jax.Array, teacher: dict[str, Any], images: jax.Array
    ) -> jax.Array:
        """The loss of each example [batch] towards both the labels and the teacher.

        Args:
            loss: [batch], towards the labels.
            logits: [batch, classes], the student's.
            teacher: collections of the teacher's model.
            images: of the batch.
        """
        target = jax.lax.stop_gradient(self.model.apply(teacher, images, train=False))
        divergence = softened_divergence(logits, target, self.temperature)
        return (1 - self.weight) * loss + self.weight * divergence


def softened_divergence(logits: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """`T^2 KL(teacher / T || student / T)` [batch] in nats, of logits [batch, classes].

    The factor keeps the gradient's magnitude the same at every temperature (section 2.1).
    """
    student = jax.nn.log_softmax(logits / temperature)
    target = jax.nn.log_softmax(teacher / temperature)
    return jnp.square(temperature) * optax.losses.kl_divergence_with_log_targets(student, target)
