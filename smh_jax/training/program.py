"""What a run computes: its schedule, its state and its compiled steps."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import optax

from smh_jax.methods import Variables
from smh_jax.training import elastic, metrics, optim, parallel, pull, streamed
from smh_jax.training.distillation import Distillation
from smh_jax.training.run import Run
from smh_jax.training.step import Batch, TrainState, eval_step, init_state, train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """What `loop.py` loops over.

    Attributes:
        num_steps: of the whole training.
        steps_per_epoch: may be fractional: the stream of examples has no border between epochs.
        learning_rate: by step.
        init_state: makes the state before the first step, unreplicated.
        backend: how the steps run on all devices.
        train_step: of a replicated state, whose memory it takes, a batch and, in a run with a
            teacher, the replicated collections of the teacher's model.
        eval_step: of a replicated state, a batch with a mask and, in an elastic run, the replicated
            index of a size.
        measures: what the method says of its variables, scalars by name; None if it says nothing.
    """

    num_steps: int
    steps_per_epoch: float
    learning_rate: optax.Schedule
    init_state: Callable[[], TrainState]
    backend: parallel.Backend
    train_step: Callable[..., tuple[TrainState, metrics.Training]]
    eval_step: Callable[..., metrics.Evaluation]
    measures: Callable[[Variables], dict[str, jax.Array]] | None

    @classmethod
    def for_run(
        cls,
        run: Run,
        num_examples: int,
        devices: Sequence[jax.Device] | None = None,
        distillation: Distillation | None = None,
    ) -> "Program":
        """The program of a run; nothing is computed or compiled yet.

        Args:
            run: what is trained.
            num_examples: of the training split.
            devices: to compile for in place of those of this process.
            distillation: how a teacher is learned from besides the labels.
        """
        config, model, method = run.config, run.model, run.method
        backend = parallel.backend(config.parallel.backend, config.parallel.model_devices)
        if devices is None:
            backend.check_processes()
        steps_per_epoch = num_examples / config.data.batch_size
        num_steps = max(1, round(config.epochs * steps_per_epoch))
        learning_rate = optim.learning_rate(
            config.optimizer,
            batch_size=config.data.batch_size,
            steps_per_epoch=steps_per_epoch,
            num_steps=num_steps,
        )
        trained_model, trained_method = model, method
        if config.parallel.model_devices > 1:
            trained_model, trained_method = streamed.of(model, method)
        optimizer = optim.create(config.optimizer, learning_rate, trained_method)
        if run.pull is not None:
            optimizer = pull.pulled(optimizer, run.pull, config.pull, num_steps)
        step = functools.partial(
            train_step,
            model=trained_model,
            method=trained_method,
            optimizer=optimizer,
            config=config.optimizer,
            seed=config.seed,
            distillation=distillation,
            num_steps=num_steps,
            num_drawn=config.elastic.drawn,
            task=run.task,
        )

        def eval_state(state: TrainState, batch: Batch, *index: jax.Array) -> metrics.Evaluation:
            sized, evaluated = elastic.of_size(trained_method, *state.evaluated(), *index)
            return eval_step(evaluated, batch, model=trained_model, method=sized, task=run.task)

        return cls(
            num_steps=num_steps,
            steps_per_epoch=steps_per_epoch,
            learning_rate=learning_rate,
            init_state=functools.partial(
                init_state,
                model=model,
                method=method,
                optimizer=optimizer,
                input_shape=run.example,
                seed=config.seed,
                ema=config.optimizer.ema_decay is not None,
            ),
            backend=backend,
            train_step=backend.map_replicas(step, donate_state=True, devices=devices),
            eval_step=backend.map_replicas(eval_state, donate_state=False, devices=devices),
            # Asked here once: between steps it would be traced at each evaluation.
            measures=jax.jit(method.measures)
            if jax.eval_shape(method.measures, method.abstract_variables)
            else None,
        )
