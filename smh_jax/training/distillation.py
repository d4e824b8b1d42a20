"""Learning from another model's logits (Hinton, Vinyals and Dean 2015, arXiv:1503.02531)."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax

from smh_jax.config import DistillationConfig
from smh_jax.training import adapted, forward, losses, trained
from smh_jax.training.run import Run


@dataclasses.dataclass(frozen=True)
class Distillation:
    """What a step knows of its teacher besides the weights.

    Attributes:
        model: the teacher, applied as in evaluation to the inputs that the student sees.
        temperature: T, by which both models' logits are divided.
        weight: share of the teacher in the loss; the rest is that of the labels.
    """

    model: nn.Module
    temperature: float
    weight: float

    def mix(
        self, loss: jax.Array, logits: jax.Array, teacher: dict[str, Any], inputs: jax.Array
    ) -> jax.Array:
        """The loss [batch, ...] towards both the labels and the teacher.

        Args:
            loss: [batch, ...], towards the labels.
            logits: [batch, ..., classes], the student's.
            teacher: collections of the teacher's model.
            inputs: of the batch.
        """
        state = {name: teacher[name] for name in teacher if name != "params"}
        target = forward.logits_of_params(self.model, teacher["params"], state, inputs)
        divergence = losses.softened_divergence(
            logits, jax.lax.stop_gradient(target), self.temperature
        )
        return (1 - self.weight) * loss + self.weight * divergence


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A trained model to learn from.

    Attributes:
        distillation: its module, and how it is learned from.
        collections: its 'params', generated once, and its batch statistics; shapes and dtypes of
            them, where a step is only compiled.
    """

    distillation: Distillation
    collections: dict[str, Any]


def load_teacher(config: DistillationConfig, student: Run) -> Teacher | None:
    """The run of `config.teacher` with its weights generated, or None.

    Raises:
        ValueError: unless it sees the same inputs and knows the same classes as the student.
    """
    if config.teacher is None:
        return None
    with trained.named(f"distillation.teacher={config.teacher}"):
        source = trained.read(config.teacher)
    distillation = _distillation_from(source.run, config, student)
    return Teacher(distillation, source.collections)


def abstract_teacher(config: DistillationConfig, student: Run) -> Teacher | None:
    """The teacher with shapes and dtypes for weights, to compile a step; it needs no checkpoint.

    Raises:
        ValueError: also if its folder holds no run.
    """
    if config.teacher is None:
        return None
    with trained.named(f"distillation.teacher={config.teacher}"):
        run = Run.in_folder(config.teacher)
    distillation = _distillation_from(run, config, student)
    params, model_state = jax.eval_shape(
        functools.partial(forward.initial_collections, distillation.model, run.example),
        jax.random.key(0),
    )
    return Teacher(distillation, {"params": params, **model_state})


def _distillation_from(teacher: Run, config: DistillationConfig, student: Run) -> Distillation:
    if teacher.dataset != student.dataset:
        raise ValueError(
            f"distillation.teacher={config.teacher} must have been trained on the same "
            f"{student.task.takes}: "
            f"{teacher.dataset} there, {student.dataset} here"
        )
    model = teacher.local_model
    # Its weights come in one.
    model = model.model if isinstance(model, adapted.Adapted) else model
    return Distillation(model, config.temperature, config.weight)
