"""From a trained run to an artifact, and how good an artifact is on the run's test set."""

import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator
from typing import Any

from absl import logging

import smh_jax
from smh_jax import data
from smh_jax.config import DataConfig, from_config_dict, to_json_dict
from smh_jax.shipping import artifact as artifacts
from smh_jax.shipping.artifact import Artifact
from smh_jax.training import trained
from smh_jax.training.workdir import Workdir


def from_run(workdir: str | os.PathLike[str]) -> Artifact:
    """The latest state of a run as an artifact; the averages of a run that keeps them.

    Raises:
        ValueError: if there is no trained run.
    """
    found = trained.read(workdir)
    config, dataset = found.config, found.run.dataset
    result = Workdir(workdir).result() or {}
    if result.get("steps") != found.step:
        logging.warning("the run is not complete: this is its step %d", found.step)
        result = {}
    return Artifact(
        method=found.run.method,
        stored=found.variables,
        model_state=found.model_state,
        model=artifacts.ModelSpec(
            config.model.name, dataset.num_classes, dict(config.model.options)
        ),
        preprocessing=artifacts.Preprocessing(
            image_shape=dataset.image_shape,
            mean=dataset.normalization.mean,
            stddev=dataset.normalization.stddev,
            crop=dataset.preprocessing,
        ),
        class_names=dataset.class_names,
        provenance={
            "config": to_json_dict(config),
            "steps": found.step,
            "test_accuracy": result.get("test_accuracy"),
            "command": result.get("command"),
            "versions": result.get("versions") or {"smh_jax": smh_jax.__version__},
            "exported_by": shlex.join(["python", *sys.orig_argv[1:]]),
        },
    )


def test_batches(config: DataConfig) -> Iterator[dict[str, Any]]:
    """The examples of the evaluation split, once."""
    dataset = data.describe(config.name, config.data_dir, config.image_size, config.preprocessing)
    split = data.load(dataset, config.eval_split, config.data_dir)
    return data.eval_batches(
        split,
        dataset.normalization,
        batch_size=config.eval_batch_size,
        skip_corrupt=config.skip_corrupt,
    )


def measured(artifact: Artifact, config: DataConfig) -> Artifact:
    """The artifact with its accuracy on the evaluation split."""
    found = artifacts.evaluate(artifact, test_batches(config))
    accuracy = {"dataset": config.name, "split": config.eval_split, **found}
    return dataclasses.replace(artifact, accuracy=accuracy)


def precisions(artifact: Artifact) -> tuple[str, ...]:
    """Those at which a model can be stored."""
    if artifact.precision != "float32" or "pools" not in artifact.stored:
        return (artifact.precision,)
    return artifacts.PRECISIONS


def table(artifact: Artifact, config: DataConfig | None, compress: bool) -> dict[str, Artifact]:
    """Prints precision, bytes and test accuracy, row by row.

    Args:
        artifact: the model.
        config: of the test set; None does not measure.
        compress: whether the bytes are those of compressed files.

    Returns:
        The artifact at each precision, with its accuracy.
    """
    row = "{:<10} {:>14} {:>14}".format
    print(row("precision", "bytes", "test accuracy"), flush=True)
    made = {}
    for precision in precisions(artifact):
        one = artifact.at(precision)
        if config is not None:
            one = measured(one, config)
        made[precision] = one
        accuracy = f"{one.accuracy['accuracy']:.2%}" if one.accuracy else "-"
        size = len(artifacts.encode(one, compress=compress))
        print(row(precision, f"{size:,}", accuracy), flush=True)
    return made


def dataset_of(artifact: Artifact, data_dir: str | None) -> DataConfig:
    """The dataset that a model was trained for.

    Raises:
        ValueError: if the model does not say.
    """
    content = artifact.provenance.get("config")
    if content is None:
        raise ValueError("the model does not say which dataset it was trained for")
    config = from_config_dict(content).data
    return config if data_dir is None else dataclasses.replace(config, data_dir=data_dir)
