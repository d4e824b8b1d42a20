"""The training loop, top to bottom."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from absl import logging

import smh_jax
from smh_jax import methods
from smh_jax.config import Config, from_config_dict
from smh_jax.methods import Variables
from smh_jax.training import (
    evaluation,
    metrics_file,
    processes,
    pull,
    rows,
    several,
    tasks,
    trained,
)
from smh_jax.training.checkpoint import Checkpoints
from smh_jax.training.distillation import load_teacher
from smh_jax.training.forward import ModelState
from smh_jax.training.monitor import Monitor
from smh_jax.training.program import Program
from smh_jax.training.progress import Progress
from smh_jax.training.run import Run
from smh_jax.training.step import TrainState
from smh_jax.training.workdir import Workdir

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "clu", "numpy",
             "tensorflow-datasets")  # fmt: skip


def train_and_evaluate(
    config: Config | ml_collections.ConfigDict, workdir: str | os.PathLike[str]
) -> dict[str, Any] | None:
    """Trains, evaluates and saves a run, resuming where an earlier call on the workdir ended.

    Args:
        config: what to train.
        workdir: folder of the run; see `smh_jax.training.workdir`.

    Returns:
        The content of result.json; None if the process was told to end (SIGTERM) before the end
        of training, in which case all that was done is saved.

    Raises:
        ValueError: if the configuration, the data or the workdir is not fit to be trained with.
        DivergedError: if the loss or the state is not finite; it names the last good checkpoint.
        PeerError: if another process of the run has ended.
    """
    if not isinstance(config, Config):
        config = from_config_dict(config)
    folder = Workdir(workdir)
    run, start = _set_up(config, folder)
    train_split, eval_split = _load_splits(run)
    teacher = load_teacher(config.distillation, run)
    distillation = None if teacher is None else teacher.distillation
    program = Program.for_run(run, train_split.num_examples, distillation=distillation)
    backend = program.backend
    with (
        folder.locked() if jax.process_index() == 0 else contextlib.nullcontext(),
        Checkpoints(folder.path, config.keep_checkpoints) as checkpoints,
        processes.failures_of_peers(),
        processes.told_to_end() as told_to_end,
    ):
        # Another trainer may have been here until now.
        folder.check(config)
        state, progress = _first_state(run, program, checkpoints, start)
        first_step = int(state.step)
        kept = metrics_file.rows_until(
            folder.path / "metrics.jsonl", first_step, progress.get("rows_sha256")
        )
        if (result := _finished_result(folder, program, first_step)) is not None:
            return result
        monitor = _monitor(folder, run, program, checkpoints, kept, progress)
        evaluate = functools.partial(_evaluate, program, run, eval_split)
        batches = _train_batches(program, run, train_split, first_step)
        eval_every_steps = max(1, round(config.eval_every_epochs * program.steps_per_epoch))
        state = backend.replicate(state)
        # The teacher's weights stay on the devices.
        teachers = () if teacher is None else (backend.replicate(teacher.collections),)
        measured: dict[str, float] = {}
        logging.info("compiling the training step")
        for step, batch in enumerate(batches, start=first_step + 1):
            state, step_metrics = program.train_step(state, batch, *teachers)
            monitor.add(step, step_metrics)

            is_last = step == program.num_steps
            is_told = told_to_end(step)
            save = is_last or is_told or step % config.checkpoint_every_steps == 0
            evaluate_now = is_last or step % eval_every_steps == 0
            # Only the first step, which is compiled, and whoever wants the state wait for it.
            monitor.read(wait=save or evaluate_now or step == first_step + 1)
            if save:
                host_state = checkpoints.check_finite(backend.first_replica(state))
            if evaluate_now:
                measured = evaluate(state)
                monitor.write_evaluation(step, measured, _measures(program, state))
            monitor.flush()
            if save:
                checkpoints.save(host_state, _progress(monitor, run))
            if evaluate_now or step == first_step + 1:
                monitor.stopwatch.start_steps()
            if is_told and not is_last:
                checkpoints.wait()
                logging.info("told to end: saved at step %d", step)
                processes.barrier("told to end")
                return None
        checkpoints.wait()
        measured = measured or evaluate(state)
        result = _result(run, program, measured, monitor) | _measures(program, state)
        if jax.process_index() == 0:
            folder.write_result(result)
        processes.barrier("the end of training")
        return result


@dataclasses.dataclass(frozen=True, eq=False)
class _Start:
    """What a new run starts from besides what is drawn.

    Attributes:
        initial: another run.
        frozen: the state of a model with frozen weights.
        pools: of the tasks to which others are added.
    """

    initial: trained.Trained | None = None
    frozen: ModelState | None = None
    pools: Variables | None = None


def _set_up(config: Config, folder: Workdir) -> tuple[Run, _Start]:
    """The run that the folder may hold, and where it is to be new, what it starts from."""
    processes.check_same("the configuration", repr(config))
    folder.check_usable()
    known = folder.check(config)
    is_new = not Checkpoints.any_in(folder.path)

    def made() -> tuple[Run, trained.Trained | None]:
        initial = trained.load_initial(config) if is_new else None
        manifest = initial.run.method.manifest if known is None and initial else known
        return Run.from_config(config, manifest), initial

    # A dataset that nobody has described yet is measured, for which it is prepared.
    run, initial = processes.first_before_others(made)
    processes.check_same("the manifest's digest", run.method.manifest.digest)
    if not is_new:
        return run, _Start()
    return run, _Start(initial, trained.load_frozen(config, run), trained.load_pools(config))


def _load_splits(run: Run) -> list[tasks.Split]:
    """The training and the evaluation split; the first process may have to prepare the dataset."""
    return processes.first_before_others(lambda: run.task.load_splits(run.dataset, run.config.data))


def _first_state(
    run: Run,
    program: Program,
    checkpoints: Checkpoints,
    start: _Start,
) -> tuple[TrainState, dict[str, Any]]:
    """The state to train from, unreplicated, and the progress up to it.

    Raises:
        ValueError: if the run cannot be resumed with this configuration on these devices.
    """
    state = program.init_state()
    latest = checkpoints.latest_step
    processes.check_same(f"the latest checkpoint in {checkpoints.directory}", repr(latest))
    if latest is None:
        if start.initial is not None:
            state = state.starting_from(start.initial.variables, start.initial.model_state)
        if start.frozen is not None:
            state = state.starting_from(state.variables, start.frozen)
        if start.pools is not None:
            variables = run.method.starting_from(start.pools, state.variables)
            state = state.starting_from(variables, state.model_state)
        if run.pull is not None:
            opt_state = pull.fitted(state.opt_state, run.pull, state.variables)
            state = state.replace(opt_state=opt_state)
        return state, {}
    state, progress = checkpoints.restore(state)
    latest = int(state.step)
    if latest > program.num_steps:
        raise ValueError(
            f"epochs={run.config.epochs} ends at step {program.num_steps}, "
            f"but the run in {checkpoints.directory} is already at step {latest}"
        )
    _check_microbatches(run, progress.get("microbatches"))
    logging.info("resuming from step %d", latest)
    return state, progress


def _num_microbatches(run: Run) -> int:
    """Into how many shares each batch is cut: batch norm and dropout depend on it."""
    replicas = jax.device_count() // run.config.parallel.model_devices
    return replicas * run.config.optimizer.accumulate_steps


def _check_microbatches(run: Run, before: int | None) -> None:
    devices, here = jax.device_count(), _num_microbatches(run)
    if before is None or before == here:
        return
    replicas = here // run.config.optimizer.accumulate_steps
    remedy = f"resume on {before * devices // replicas} devices"
    if before % replicas == 0:
        remedy = f"use --config.optimizer.accumulate_steps={before // replicas}"
    raise ValueError(
        f"each batch was cut into {before} microbatches so far, and is into {here} here "
        f"({devices} devices, optimizer.accumulate_steps={run.config.optimizer.accumulate_steps}), "
        f"which would change batch norm and dropout: {remedy}"
    )


def _progress(monitor: Monitor, run: Run) -> dict[str, Any]:
    return {**monitor.progress(), "microbatches": _num_microbatches(run)}


def _measures(program: Program, state: TrainState) -> dict[str, float]:
    """What the method says of the variables with which the run is evaluated."""
    if program.measures is None:
        # Nothing is worth bringing the state to the host for.
        return {}
    variables, _ = program.backend.first_replica(state).evaluated()
    return {name: value.item() for name, value in program.measures(variables).items()}


def _finished_result(folder: Workdir, program: Program, step: int) -> dict[str, Any] | None:
    """The result of a run that is complete at a step, or None."""
    result = folder.result()
    if result is None or not result["steps"] == program.num_steps == step:
        return None
    logging.info("the run is complete")
    return result


def _monitor(
    folder: Workdir,
    run: Run,
    program: Program,
    checkpoints: Checkpoints,
    kept: bytes,
    progress: Mapping[str, Any],
) -> Monitor:
    """Describes the run in its folder and in the log, and opens what will be written there."""
    writer = rows.RowWriter()
    if jax.process_index() == 0:
        folder.describe(run.config, run.method.manifest)
        images = run.config.data.batch_size
        progress_table = Progress(program.num_steps, program.steps_per_epoch, images)
        writer = rows.row_writer(folder.path, kept, progress_table)
    logging.info("%s on %s: %r", run.config.model.name, run.dataset.name, run.method)
    # All at once, since a computation between steps would wait for them.
    rates = jax.device_get(jax.jit(jax.vmap(program.learning_rate))(jnp.arange(program.num_steps)))
    first_replica = program.backend.first_replica
    return Monitor(writer, checkpoints, rates, run.config.log_every_steps, progress, first_replica)


def _evaluate(program: Program, run: Run, split: tasks.Split, state: Any) -> dict[str, float]:
    """How good a replicated state is on the evaluation split: of all sizes, or of all tasks."""
    backend, task = program.backend, run.task
    if run.networks:
        return evaluation.evaluate_tasks(program.eval_step, state, split, task, backend)
    data = {"split": split, "dataset": run.dataset, "config": run.config.data, "task": task}
    return evaluation.evaluate_sizes(program.eval_step, state, run.sizes, backend, **data)


def _train_batches(program: Program, run: Run, split: tasks.Split, first_step: int) -> Any:
    """The batches of all steps after the first ones, on the devices."""
    return program.backend.to_devices(
        run.task.train_batches(
            split,
            run.dataset,
            run.config.data,
            seed=run.config.seed,
            first_step=first_step,
            last_step=program.num_steps,
            host=jax.process_index(),
            num_hosts=jax.process_count(),
        )
    )


def _result(
    run: Run, program: Program, measured: Mapping[str, float], monitor: Monitor
) -> dict[str, Any]:
    """The content of result.json."""
    config, summary, stopwatch = run.config, run.method.summary, monitor.stopwatch
    per_step = config.data.batch_size * max(1, len(run.networks))
    derived = {f"test_{name}": measured[name] for name in run.task.derived(measured, run.dataset)}
    return {
        "task": config.task,
        "model": config.model.name,
        "dataset": run.dataset.name,
        "method": config.method.name,
        "hashed": config.method.hashed,
        "seed": config.seed,
        "target_size": run.method.target_size,
        **{name: summary[name] for name in summary if "num_" in name},
        "test_accuracy": measured["accuracy"],
        "test_loss": measured["loss"],
        "test_examples": int(measured["examples"]),
        **derived,
        **_of_sizes(run, measured),
        **({"tasks": several.results(run.task, measured)} if run.networks else {}),
        "steps": program.num_steps,
        "epochs": config.epochs,
        "train_seconds": round(stopwatch.train_seconds(), 3),
        "examples_per_second": round(stopwatch.steps_per_second() * per_step, 1),
        "processes": jax.process_count(),
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        "versions": _versions(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
    }


def _of_sizes(run: Run, measured: Mapping[str, float]) -> dict[str, Any]:
    """In the result of an elastic run: how good the model of every size is."""
    if not isinstance(run.method, methods.Elastic):
        return {}
    return {
        "sizes": [
            {
                "size": size,
                "num_variables": method.num_variables,
                "accuracy": measured[f"accuracy_{size}"],
                "loss": measured[f"loss_{size}"],
            }
            for size, method in zip(run.sizes, run.method.methods, strict=True)
        ]
    }


def _versions() -> dict[str, str]:
    versions = {"smh_jax": smh_jax.__version__, "python": platform.python_version()}
    return versions | {name: importlib.metadata.version(name) for name in _PACKAGES}
