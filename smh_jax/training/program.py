"""What a run computes: its schedule, its state and its compiled steps."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from smh_jax.training import metrics, optim, parallel
from smh_jax.training.distillation import Distillation
from smh_jax.training.run import Run
from smh_jax.training.step import Batch, TrainState, eval_step, init_state, train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """What `train.py` loops over.

    Attributes:
        num_steps: of the whole training.
        steps_per_epoch: may be fractional: the stream of examples has no border between epochs.
        learning_rate: by step.
        init_state: makes the state before the first step, unreplicated.
        train_step: of a replicated state, whose memory it takes, and a batch.
        mapped_step: the same before it holds the teacher's collections, to be lowered: in a run
            with a teacher they are its third argument, replicated.
        eval_step: of a replicated state and a batch with a mask.
    """

    num_steps: int
    steps_per_epoch: float
    learning_rate: optax.Schedule
    init_state: Callable[[], TrainState]
    train_step: Callable[[TrainState, Batch], tuple[TrainState, metrics.Training]]
    mapped_step: Callable[..., tuple[TrainState, metrics.Training]]
    eval_step: Callable[[TrainState, Batch], metrics.Evaluation]


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A model to learn from.

    Attributes:
        distillation: its module, and how it is learned from.
        collections: its 'params', made once, and its batch statistics; abstract where the step is
            compiled only.
    """

    distillation: Distillation
    collections: dict[str, Any]


def build(
    run: Run,
    num_examples: int,
    devices: Sequence[jax.Device] | None = None,
    teacher: Teacher | None = None,
) -> Program:
    """The program of a run; nothing is computed or compiled yet.

    Args:
        run: built from its configuration.
        num_examples: of the training split.
        devices: to compile for in place of those of this program.
        teacher: to learn from beside the labels.
    """
    config = run.config
    steps_per_epoch = num_examples / config.data.batch_size
    num_steps = max(1, round(config.epochs * steps_per_epoch))
    learning_rate = optim.learning_rate(
        config.optimizer,
        batch_size=config.data.batch_size,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
    )
    optimizer = optim.create(config.optimizer, learning_rate)
    static: dict[str, Any] = {"model": run.model, "method": run.method}
    made = {"pool_precision": config.pool_precision}
    mapped_step = parallel.map_replicas(
        functools.partial(
            train_step,
            **static,
            **made,
            optimizer=optimizer,
            config=config.optimizer,
            seed=config.seed,
            distillation=None if teacher is None else teacher.distillation,
        ),
        donate_state=True,
        devices=devices,
    )
    return Program(
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        learning_rate=learning_rate,
        init_state=functools.partial(
            init_state,
            **static,
            optimizer=optimizer,
            input_shape=run.input_shape,
            seed=config.seed,
            ema=config.optimizer.ema_decay is not None,
        ),
        train_step=mapped_step if teacher is None else _taught(mapped_step, teacher),
        mapped_step=mapped_step,
        eval_step=parallel.map_replicas(
            functools.partial(eval_step, **static, **made), donate_state=False, devices=devices
        ),
    )


def _taught(step: Callable[..., Any], teacher: Teacher) -> Callable[[TrainState, Batch], Any]:
    """The step with the teacher's weights, which stay on the devices from the first call on."""
    collections = functools.cache(lambda: parallel.replicate(teacher.collections))
    return lambda state, batch: step(state, batch, collections())
