"""What a run has learned, read from its folder: to go on from, to learn from, to look at."""

import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from smh_jax.config import Config, DistillationConfig
from smh_jax.manifest import Params
from smh_jax.methods import Variables
from smh_jax.training import program
from smh_jax.training.checkpoint import Checkpoints
from smh_jax.training.distillation import Distillation
from smh_jax.training.run import Run, build
from smh_jax.training.step import make_weights
from smh_jax.training.workdir import Workdir


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """The latest checkpoint of a run.

    Attributes:
        run: what the run's configuration stands for, on one device.
        step: of the checkpoint.
        variables: of the method; the averages, where the run is evaluated with averages.
        model_state: the model's other collections (batch statistics), likewise.
    """

    run: Run
    step: int
    variables: Variables
    model_state: dict[str, Any]

    @property
    def config(self) -> Config:
        """Of the run, less what concerns several devices."""
        return self.run.config

    @property
    def params(self) -> Params:
        """All weights, with which the run is evaluated."""
        make = functools.partial(make_weights, self.run.method, self.config.pool_precision)
        return jax.jit(make)(self.variables)


def read(workdir: str | os.PathLike[str]) -> Trained:
    """The latest state of a run.

    Raises:
        ValueError: if the folder holds no run, or one without a checkpoint.
    """
    run = _read_run(workdir)
    config, path = run.config, Workdir(workdir).path
    if not Checkpoints.any_in(path):
        raise ValueError(f"workdir={workdir} has no checkpoint: train it first")
    with Checkpoints(path, config.keep_checkpoints) as checkpoints:
        state = checkpoints.read()
    averages = state.get("ema")
    found = state if averages is None else averages
    variables = _like(run.method.abstract_variables, found["variables"])
    logging.info("%s: step %d, method %s", workdir, state["step"], config.method.name)
    return Trained(run, int(state["step"]), variables, found.get("model_state") or {})


def _read_run(workdir: str | os.PathLike[str]) -> Run:
    """What the configuration of a run stands for, on one device; whether it is trained or not."""
    config, manifest = Workdir(workdir).read()
    # Neither the devices nor how batch norm was averaged over them are of concern any more.
    local = dataclasses.replace(config, batch_norm="local", batch_norm_group_size=1)
    return build(local, manifest, num_devices=1)


def _like(wanted: Any, found: Any) -> Any:
    """A checkpoint's tree, in which tuples have become lists, in its proper structure and dtypes.

    Raises:
        ValueError: if it has other leaves.
    """
    leaves = jax.tree.leaves(found)
    shapes = [leaf.shape for leaf in leaves]
    if shapes != [leaf.shape for leaf in jax.tree.leaves(wanted)]:
        raise ValueError("the checkpoint has other variables than the run's configuration")
    tree = jax.tree.unflatten(jax.tree.structure(wanted), leaves)
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), tree, wanted)


def first_run(config: Config) -> Trained | None:
    """The run of `config.init_from`, or None.

    Raises:
        ValueError: unless it has the model and the method of the configuration.
    """
    if config.init_from is None:
        return None
    found = read(config.init_from)
    model, method = found.config.model, found.config.method
    ours, theirs = (
        {"model.name": m.name, "method.name": k.name, "method.hashed": k.hashed}
        for m, k in ((config.model, config.method), (model, method))
    )
    wrong = [f"{n}: {theirs[n]!r} there, {ours[n]!r} here" for n in ours if theirs[n] != ours[n]]
    if not wrong and found.run.method != build(config, found.run.method.manifest).method:
        wrong = [f"method: {method} there, {config.method} here"]
    if wrong:
        hint = "; python -m smh_jax.convert makes one" if method.name == "dense" else ""
        raise ValueError(
            f"init_from={config.init_from} must be a run of the same model and method "
            f"({'; '.join(wrong)}){hint}"
        )
    return found


def teacher(config: DistillationConfig, student: Run) -> program.Teacher | None:
    """The run of `config.teacher` with its weights made, or None.

    Raises:
        ValueError: unless it sees the same images and knows the same classes as the student.
    """
    if config.teacher is None:
        return None
    found = read(config.teacher)
    distillation = _distillation(config, found.run, student)
    return program.Teacher(distillation, {"params": found.params, **found.model_state})


def abstract_teacher(config: DistillationConfig, student: Run) -> program.Teacher | None:
    """The teacher with shapes and dtypes for weights, to compile a step; it needs no checkpoint.

    Raises:
        ValueError: also if its folder holds no run.
    """
    if config.teacher is None:
        return None
    try:
        run = _read_run(config.teacher)
    except ValueError as error:
        raise ValueError(f"distillation.teacher={config.teacher}: {error}") from error
    distillation = _distillation(config, run, student)
    init = functools.partial(distillation.model.init, train=False)
    images = jax.ShapeDtypeStruct(run.input_shape, jnp.float32)
    return program.Teacher(distillation, dict(jax.eval_shape(init, jax.random.key(0), images)))


def _distillation(config: DistillationConfig, teacher: Run, student: Run) -> Distillation:
    if teacher.dataset != student.dataset:
        raise ValueError(
            f"distillation.teacher={config.teacher} must have been trained on the same images: "
            f"{teacher.dataset} there, {student.dataset} here"
        )
    return Distillation(teacher.local_model, config.temperature, config.weight)
