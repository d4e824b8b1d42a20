"""The training loop, top to bottom."""

import contextlib
import functools
import importlib.metadata
import math
import os
import platform
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
from absl import logging
from clu import metrics as clu_metrics
from clu import periodic_actions

import smh_jax
from smh_jax import config as configs
from smh_jax import data, metrics, parallel
from smh_jax.checkpoint import Checkpoints
from smh_jax.program import Program
from smh_jax.program import build as build_program
from smh_jax.run import Run, build
from smh_jax.step import TrainState
from smh_jax.workdir import Workdir

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "clu", "numpy",
             "tensorflow-datasets")  # fmt: skip


class DivergedError(RuntimeError):
    """The loss or the gradient was no longer a finite number."""


def train_and_evaluate(
    config: configs.Config | ml_collections.ConfigDict, workdir: str | os.PathLike[str]
) -> dict[str, Any] | None:
    """Trains, evaluates and saves a run, going on where an earlier call on the workdir ended.

    Args:
        config: what to train.
        workdir: folder of the run; see `smh_jax.workdir`.

    Returns:
        The content of result.json; None if the process was told to end (SIGTERM) before the end
        of training, in which case all that was done is saved.

    Raises:
        ValueError: if the configuration, the data or the workdir is not fit to be trained with.
        DivergedError: if the loss is not finite; the message names the last good checkpoint.
    """
    if not isinstance(config, configs.Config):
        config = configs.from_config_dict(config)
    folder = Workdir(workdir)
    run = build(config, manifest=folder.check(config))
    train_split = data.load(run.dataset, config.data.train_split, config.data.data_dir)
    eval_split = data.load(run.dataset, config.data.eval_split, config.data.data_dir)

    program = build_program(run, train_split.num_examples)
    num_steps = program.num_steps
    eval_every_steps = max(1, round(config.eval_every_epochs * program.steps_per_epoch))
    state = program.init_state()

    with Checkpoints(folder.path, config.keep_checkpoints) as checkpoints, _sigterm() as told:
        stopwatch = Stopwatch()
        if checkpoints.latest_step is not None:
            state, progress = checkpoints.restore(state)
            stopwatch = Stopwatch(**progress)
            logging.info("going on from step %d", state.step)
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
        folder.describe(config, run.method.manifest)
        for name, value in run.method.summary.items():
            logging.info("%s: %s", name, value)

        evaluate = _evaluation(run, program, eval_split)
        batches = parallel.to_devices(
            data.train_batches(
                train_split,
                run.dataset.normalization,
                batch_size=config.data.batch_size,
                augmentation=config.data.augmentation,
                seed=config.seed,
                first_step=first_step,
                last_step=num_steps,
                host=jax.process_index(),
                num_hosts=jax.process_count(),
            )
        )
        state = parallel.replicate(state)
        pending: list[metrics.Training] = []  # on the devices, perhaps not computed yet
        finished: list[metrics.Training] = []  # on the host, all finite, not logged yet
        writer = folder.metric_writer(first_step)
        report_progress = periodic_actions.ReportProgress(
            num_train_steps=num_steps, every_steps=config.log_every_steps
        )
        report_progress(first_step)
        final: dict[str, float] = {}
        for step, batch in enumerate(batches, start=first_step + 1):
            state, measured = program.train_step(state, batch)
            pending.append(measured)
            if step == first_step + 1:
                jax.block_until_ready(measured)
                stopwatch.start_steps()

            is_last = step == num_steps
            save = is_last or told.is_set() or step % config.checkpoint_every_steps == 0
            log = is_last or step % config.log_every_steps == 0
            evaluate_now = is_last or step % eval_every_steps == 0
            if log or save or evaluate_now:
                finished += _fetch(pending, step, checkpoints)
                stopwatch.count_steps(len(pending))
                pending = []
            if log:
                scalars = {f"train_{name}": value for name, value in _mean(finished).items()}
                scalars["learning_rate"] = float(program.learning_rate(step - 1))
                scalars["steps_per_second"] = stopwatch.steps_per_second()
                writer.write_scalars(step, scalars)
                finished = []
            if evaluate_now:
                final = evaluate(state)
                writer.write_scalars(step, {f"test_{name}": value for name, value in final.items()})
                stopwatch.start_steps()
            report_progress(step)
            if log or save or evaluate_now:
                writer.flush()
            if save:
                checkpoints.save(parallel.first_replica(state), stopwatch.progress())
            if told.is_set() and not is_last:
                checkpoints.wait()
                logging.info("told to end: saved at step %d", step)
                writer.close()
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
            "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
            "versions": _versions(),
            "command": shlex.join(["python", *sys.orig_argv[1:]]),
        }
        folder.write_result(result)
        return result


class Stopwatch:
    """Seconds of training over all processes that took part in a run."""

    def __init__(self, train_seconds: float = 0.0, step_seconds: float = 0.0, steps: int = 0):
        """Goes on from what an earlier process counted (`progress`)."""
        self._before = train_seconds
        self._step_seconds = step_seconds
        self._steps = steps
        self._begin = time.monotonic()
        self._mark: float | None = None

    def start_steps(self) -> None:
        """Steps from here on are timed; compilation and evaluation lie before."""
        self._mark = time.monotonic()

    def count_steps(self, steps: int) -> None:
        """Adds the time since the last mark as that of `steps` steps."""
        if self._mark is not None:
            now = time.monotonic()
            self._step_seconds += now - self._mark
            self._steps += steps
            self._mark = now

    def train_seconds(self) -> float:
        """Wall time from the first step, compilation and evaluations included."""
        return self._before + time.monotonic() - self._begin

    def steps_per_second(self) -> float:
        """Of the timed steps; 0 where there is none."""
        return self._steps / self._step_seconds if self._steps else 0.0

    def progress(self) -> dict[str, Any]:
        """What the next process needs to go on."""
        return {
            "train_seconds": self.train_seconds(),
            "step_seconds": self._step_seconds,
            "steps": self._steps,
        }


def _evaluation(
    run: Run, program: Program, split: data.Split
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
            )
        )
        measured = [program.eval_step(state, batch) for batch in batches]
        collections = list(map(parallel.first_replica, measured))
        return _mean(collections) | {"examples": sum(float(c.accuracy.count) for c in collections)}

    return evaluate


def _mean(collections: list[clu_metrics.Collection]) -> dict[str, float]:
    """Each metric over all that the collections counted."""
    total = functools.reduce(lambda one, other: one.merge(other), collections)
    return {name: float(value) for name, value in total.compute().items()}


def _fetch(
    pending: list[metrics.Training], step: int, checkpoints: Checkpoints
) -> list[metrics.Training]:
    """The metrics of the steps up to and including `step`, on the host.

    Raises:
        DivergedError: at the first of them whose loss or gradient is not finite.
    """
    collections = list(map(parallel.first_replica, pending))
    for at, collection in enumerate(collections, start=step - len(collections) + 1):
        values = collection.compute()
        bad = [name for name in ("loss", "grad_norm") if not math.isfinite(values[name])]
        if bad:
            checkpoints.wait()
            good = checkpoints.latest_step
            last = checkpoints.directory / str(good) if good is not None else "none was saved"
            raise DivergedError(
                f"{bad[0]}={float(values[bad[0]])} at step {at}; last good checkpoint: {last}. "
                "A lower optimizer.learning_rate or optimizer.clip_norm may help"
            )
    return collections


@contextlib.contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that is set when the process is told to end; the signal itself is held off."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        # Signals can only be handled by the main thread.
        yield told
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, previous)


def _versions() -> dict[str, str]:
    versions = {"smh_jax": smh_jax.__version__, "python": platform.python_version()}
    return versions | {name: importlib.metadata.version(name) for name in _PACKAGES}
