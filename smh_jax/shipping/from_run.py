"""From a trained run to an artifact, and how good an artifact is on the run's test set."""

import dataclasses
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

import smh_jax
from smh_jax import methods
from smh_jax.config import Config, DataConfig, from_config_dict, to_json_dict
from smh_jax.config.names import check_known
from smh_jax.methods import shared
from smh_jax.shipping import artifact as artifacts
from smh_jax.shipping.artifact import Artifact
from smh_jax.training import byte_budget, evaluation, several, tasks, trained
from smh_jax.training.run import Run
from smh_jax.training.workdir import Workdir


def read_artifact(
    workdir: str | os.PathLike[str], size: float | None = None, task: str | None = None
) -> Artifact:
    """The latest state of a run as an artifact; the averages of a run that keeps them.

    Its pools are those that were trained, pruned if the run prunes them, but not rounded:
    `Artifact.at` rounds them.

    Args:
        workdir: of the run.
        size: of an elastic run, as a number of variables or a share of all weights; None for the
            largest.
        task: of a run of several tasks, which one; it has no more of their pools than it needs.

    Raises:
        ValueError: if there is no trained run, or none of this size or task.
    """
    if size is not None and task is not None:
        raise ValueError(f"give either size={size:g} or task={task!r}")
    if task is not None or Workdir(workdir).read()[0].tasks:
        by_task = read_tasks(workdir)
        if task is None:
            raise ValueError(f"{workdir} has several tasks, name one: {', '.join(by_task)}")
        check_known(f"task={task!r}", task, by_task)
        return artifacts.alone(by_task[task])
    source = trained.read(workdir, size)
    result = _result_at(workdir, source.step)
    accuracy = result.get("test_accuracy")
    if size is not None and result:
        accuracies = {of["num_variables"]: of["accuracy"] for of in result["sizes"]}
        accuracy = accuracies[source.run.method.num_variables]
    run = source.run
    return Artifact(
        method=methods.innermost(run.method),
        stored=jax.jit(run.method.exported)(source.variables),
        model_state=source.model_state,
        **_description(run.config, run.task, run.dataset),
        provenance=_provenance(run.config, source.step, accuracy, result),
    )


def read_tasks(workdir: str | os.PathLike[str]) -> dict[str, Artifact]:
    """The artifacts of all tasks of a run, and before them of those to which they were added.

    Their pools are the same arrays where they have as many hash pairs; for more see above.
    """
    source = trained.read(workdir)
    run, result = source.run, _result_at(workdir, source.step)
    if not run.networks:
        raise ValueError(f"{workdir} has one task, and not several (config.tasks)")
    method, stored = methods.innermost(run.method), run.method.exported(source.variables)
    by_task = {}
    if run.source is not None:
        by_task = read_tasks(run.config.pool_from)
        *_, last = by_task.values()
        for key, pool in last.stored["pools"].items():
            if not np.array_equal(pool, source.variables["frozen"][key]):
                raise ValueError(
                    f"pool_from={run.config.pool_from} has other pools than when the tasks of "
                    f"{workdir} were added to it: it was trained further"
                )
    accuracies = {of["task"]: of["accuracy"] for of in result.get("tasks", ())}
    for name, network in run.networks.items():
        by_task[name] = Artifact(
            method=shared.member(method, name),
            stored=shared.of_member(method, name, stored),
            model_state=several.of_network(source.model_state, name),
            **_description(network.config, network.task, network.dataset),
            provenance=_provenance(network.config, source.step, accuracies.get(name), result),
        )
    return by_task


def _result_at(workdir: str | os.PathLike[str], step: int) -> dict[str, Any]:
    """The result of the run that is complete at a step; {} and a warning if it is not."""
    result = Workdir(workdir).result() or {}
    if result.get("steps") == step:
        return result
    logging.warning("the run is not complete: this is its step %d", step)
    return {}


def _description(config: Config, task: tasks.Task, dataset: tasks.Dataset) -> dict[str, Any]:
    """What an artifact says of its model and of its inputs and outputs."""
    model = config.model
    return {
        "model": artifacts.ModelSpec(
            model.name,
            dataset.num_classes,
            dict(model.options),
            adapted=config.frozen_from is not None,
        ),
        "preprocessing": task.preprocessing(dataset),
        "class_names": dataset.class_names,
    }


def _provenance(
    config: Config, step: int, accuracy: float | None, result: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "config": to_json_dict(config),
        "steps": step,
        "test_accuracy": accuracy,
        "command": result.get("command"),
        "versions": result.get("versions") or {"smh_jax": smh_jax.__version__},
        "exported_by": shlex.join(["python", *sys.orig_argv[1:]]),
    }


def read_sizes(workdir: str | os.PathLike[str]) -> dict[int, Artifact]:
    """The artifacts of all sizes of an elastic run, by size, rising; for errors see above."""
    sizes = Run.in_folder(workdir).sizes
    if not sizes:
        raise ValueError(f"{workdir} is of one size, not elastic (elastic.sizes)")
    return {size: read_artifact(workdir, size) for size in sizes}


def with_accuracy(artifact: Artifact, config: DataConfig) -> Artifact:
    """The artifact with its accuracy on the evaluation split of a dataset."""
    measured = evaluation.evaluate_variables(
        artifact.module,
        artifact.method,
        artifact.variables,
        artifact.model_state,
        config,
        artifact.task,
    )
    measured["examples"] = int(measured["examples"])
    accuracy = {"dataset": config.name, "split": config.eval_split, **measured}
    return dataclasses.replace(artifact, accuracy=accuracy)


def at_every_precision(
    artifact: Artifact, config: DataConfig | None, compress: bool, wanted: str | None = None
) -> dict[str, Artifact]:
    """The artifact at each precision that it can have; prints its bytes and test accuracy.

    The accuracy is that on the test set of `config`, if there is one; the bytes are those of
    compressed files on demand. A precision wanted besides, such as 'coded:0.5', is the last.
    Under the table are the bytes of the weights themselves, which a dense model would store.
    """
    precisions = [artifact.precision]
    if artifact.precision == "float32":
        precisions = list(dict.fromkeys([*artifacts.PRECISIONS, wanted or "float32"]))
    row = "{:<12} {:>14} {:>14}".format
    print(row("precision", "bytes", "test accuracy"), flush=True)
    by_precision = {}
    for precision in precisions:
        reduced = artifact.at(precision)
        if config is not None:
            reduced = with_accuracy(reduced, config)
        by_precision[precision] = reduced
        accuracy = f"{reduced.accuracy['accuracy']:.2%}" if reduced.accuracy else "-"
        size = len(artifacts.encode(reduced, compress=compress))
        print(row(precision, f"{size:,}", accuracy), flush=True)
    print(f"all weights in float32: {4 * artifact.method.manifest.num_weights:,} bytes")
    return by_precision


def precision_for(artifact: Artifact, wanted: str | None, compress: bool) -> str:
    """The precision at which a model is written: the wanted one, or the one that it has.

    A run with a budget in bytes (`method.target_bytes`) has the precision it was trained for. Where
    its file is larger than promised, the steps between its integers grow until it fits.

    Raises:
        ValueError: for an impossible precision, or where nothing can grow.
    """
    content = artifact.provenance.get("config")
    config = None if content is None else from_config_dict(content)
    has_budget = config is not None and config.method.target_bytes is not None
    if wanted is not None or not has_budget or artifact.precision != "float32":
        precision = wanted or artifact.precision
        artifact.at(precision)
        return precision
    precision, budget = byte_budget.precision_of(config), config.method.target_bytes
    while (size := len(artifacts.encode(artifact.at(precision), compress=compress))) > budget:
        kind, step = artifacts.parse(precision)
        if kind != "coded":
            raise ValueError(
                f"the file has {size:,} bytes at precision {precision!r}, above "
                f"method.target_bytes={budget}: choose another --precision"
            )
        precision = f"coded:{1.02 * step:.6g}"
    return precision


def dataset_of(artifact: Artifact, data_dir: str | None) -> DataConfig:
    """The dataset that a model was trained for; raises ValueError if the model does not say."""
    content = artifact.provenance.get("config")
    if content is None:
        raise ValueError("the model does not say which dataset it was trained for")
    config = from_config_dict(content).data
    return config if data_dir is None else dataclasses.replace(config, data_dir=data_dir)
