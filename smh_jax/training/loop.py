"""The training loop, top to bottom."""

import collections
import importlib.metadata
import math
import os
import platform
import shlex
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from absl import logging
from clu import metric_writers, periodic_actions

import smh_jax
from smh_jax import config as configs
from smh_jax import data
from smh_jax.training import metrics, parallel, processes, trained
from smh_jax.training.checkpoint import Checkpoints
from smh_jax.training.monitor import STEPS_AHEAD, Monitor, Stopwatch, mean
from smh_jax.training.program import Program
from smh_jax.training.program import build as build_program
from smh_jax.training.run import Run, build
from smh_jax.training.step import TrainState
from smh_jax.training.workdir import Workdir

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "clu", "numpy",
             "tensorflow-datasets")  # fmt: skip


def train_and_evaluate(
    config: configs.Config | ml_collections.ConfigDict, workdir: str | os.PathLike[str]
) -> dict[str, Any] | None:
    """Trains, evaluates and saves a run, going on where an earlier call on the workdir ended.

    Args:
        config: what to train.
        workdir: folder of the run; see `smh_jax.training.workdir`.

    Returns:
        The content of result.json; None if the process was told to end (SIGTERM) before the end
        of training, in which case all that was done is saved.

    Raises:
        ValueError: if the configuration, the data or the workdir is not fit to be trained with.
        DivergedError: if the loss is not finite; the message names the last good checkpoint.
        PeerError: if another process of the run has ended.
    """
    if not isinstance(config, configs.Config):
        config = configs.from_config_dict(config)
    processes.check_same("the configuration", repr(config))
    is_first = jax.process_index() == 0
    folder = Workdir(workdir)
    manifest = folder.check(config)
    source = None if Checkpoints.any_in(folder.path) else trained.first_run(config)
    if manifest is None and source is not None:
        manifest = source.run.method.manifest
    run = build(config, manifest)
    teacher = trained.teacher(config.distillation, run)
    train_split, eval_split = processes.first_before_others(
        lambda: [
            data.load(run.dataset, split, config.data.data_dir)
            for split in (config.data.train_split, config.data.eval_split)
        ]
    )
    program = build_program(run, train_split.num_examples, teacher=teacher)
    num_steps = program.num_steps
    eval_every_steps = max(1, round(config.eval_every_epochs * program.steps_per_epoch))
    state = program.init_state()

    with (
        Checkpoints(folder.path, config.keep_checkpoints) as checkpoints,
        processes.failures_of_peers(),
        processes.told_to_end() as told_to_end,
    ):
        stopwatch = Stopwatch()
        processes.check_same(
            f"the latest checkpoint in workdir={folder.path}", repr(checkpoints.latest_step)
        )
        if checkpoints.latest_step is not None:
            state, progress = checkpoints.restore(state)
            stopwatch = Stopwatch(**progress)
            logging.info("going on from step %d", state.step)
        elif source is not None:
            state = state.starting_from(source.variables, source.model_state)
        first_step = int(state.step)
        if first_step > num_steps:
            raise ValueError(
                f"epochs={config.epochs} ends at step {num_steps}, "
                f"but workdir={folder.path} is already at step {first_step}"
            )
        result = folder.result()
        if result is not None and result["steps"] == num_steps:
            logging.info("the run is complete")
            return result
        if is_first:
            folder.describe(config, run.method.manifest)
        for name, value in run.method.summary.items():
            logging.info("%s: %s", name, value)

        evaluate = _evaluation(run, program, eval_split)
        batches = parallel.to_devices(
            data.train_batches(
                train_split,
                run.dataset.normalization,
                batch_size=config.data.batch_size,
                augmentation=data.Augmentation(
                    config.data.augmentation,
                    config.data.randaugment_layers,
                    config.data.randaugment_magnitude,
                ),
                seed=config.seed,
                first_step=first_step,
                last_step=num_steps,
                host=jax.process_index(),
                num_hosts=jax.process_count(),
                dtype=config.data.image_dtype,
                skip_corrupt=config.data.skip_corrupt,
            )
        )
        state = parallel.replicate(state)
        writer = folder.metric_writer(first_step) if is_first else metric_writers.MultiWriter([])
        # All at once, since a computation between steps would wait for them.
        rates = jax.jit(jax.vmap(program.learning_rate))(jnp.arange(num_steps))
        monitor = Monitor(
            writer, checkpoints, stopwatch, jax.device_get(rates), config.log_every_steps
        )
        report_progress = periodic_actions.ReportProgress(
            num_train_steps=num_steps, every_steps=config.log_every_steps
        )
        report_progress(first_step)
        final: dict[str, float] = {}
        for step, batch in enumerate(batches, start=first_step + 1):
            state, measured = program.train_step(state, batch)
            monitor.add(step, measured)

            is_last = step == num_steps
            is_told = told_to_end(step)
            save = is_last or is_told or step % config.checkpoint_every_steps == 0
            evaluate_now = is_last or step % eval_every_steps == 0
            # Only the first step, which is compiled, and whoever wants the state wait for it.
            wait = save or evaluate_now or step == first_step + 1
            wrote = monitor.read(ahead=0 if wait else STEPS_AHEAD)
            if evaluate_now:
                final = evaluate(state)
                writer.write_scalars(step, {f"test_{name}": value for name, value in final.items()})
            if evaluate_now or step == first_step + 1:
                stopwatch.start_steps()
            report_progress(step)
            if wrote or evaluate_now:
                writer.flush()
            if save:
                checkpoints.save(parallel.first_replica(state), stopwatch.progress())
            if is_told and not is_last:
                checkpoints.wait()
                logging.info("told to end: saved at step %d", step)
                writer.close()
                processes.barrier("told to end")
                return None
        writer.close()
        checkpoints.wait()
        if not final:
            final = evaluate(state)

        result = {
            "model": config.model.name,
            "dataset": config.data.name,
            "method": config.method.name,
            "hashed": config.method.hashed,
            "seed": config.seed,
            "target_size": config.method.target_size,
            **{name: run.method.summary[name] for name in run.method.summary if "num_" in name},
            "test_accuracy": final["accuracy"],
            "test_loss": final["loss"],
            "test_examples": int(final["examples"]),
            "steps": num_steps,
            "epochs": config.epochs,
            "train_seconds": round(stopwatch.train_seconds(), 3),
            "examples_per_second": round(stopwatch.steps_per_second() * config.data.batch_size, 1),
            "processes": jax.process_count(),
            "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
            "versions": _versions(),
            "command": shlex.join(["python", *sys.orig_argv[1:]]),
        }
        if is_first:
            folder.write_result(result)
        processes.barrier("the end of training")
        return result


def _evaluation(
    run: Run, program: Program, split: data.Split | data.RecordSplit
) -> Callable[[TrainState], dict[str, float]]:
    """A function that measures a replicated state on every example of the split once."""
    devices = jax.device_count()
    # Padding is masked, so the batch may grow to what the devices divide.
    batch_size = math.ceil(run.config.data.eval_batch_size / devices) * devices

    def evaluate(state: TrainState) -> dict[str, float]:
        batches = parallel.to_devices(
            data.eval_batches(
                split,
                run.dataset.normalization,
                batch_size=batch_size,
                host=jax.process_index(),
                num_hosts=jax.process_count(),
                dtype=run.config.data.image_dtype,
                skip_corrupt=run.config.data.skip_corrupt,
            )
        )
        ahead: collections.deque[metrics.Evaluation] = collections.deque()
        read = []
        for batch in batches:
            ahead.append(program.eval_step(state, batch))
            if len(ahead) > STEPS_AHEAD:
                read.append(parallel.first_replica(ahead.popleft()))
        read += map(parallel.first_replica, ahead)
        return mean(read) | {"examples": sum(float(c.accuracy.count) for c in read)}

    return evaluate


def _versions() -> dict[str, str]:
    versions = {"smh_jax": smh_jax.__version__, "python": platform.python_version()}
    return versions | {name: importlib.metadata.version(name) for name in _PACKAGES}
