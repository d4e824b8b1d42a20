"""From a trained model's weights to a run of a method that generates them, at step 0."""

import dataclasses
import os
from typing import Any

import jax
import numpy as np

from smh_jax.config import Config, ElasticConfig, MethodConfig, PullConfig
from smh_jax.config.buckets import check_reachable
from smh_jax.config.files import write_json
from smh_jax.manifest import Params
from smh_jax.methods import Method, Variables
from smh_jax.shipping import params_file, pretrained
from smh_jax.training import trained
from smh_jax.training.checkpoint import Checkpoints
from smh_jax.training.program import Program
from smh_jax.training.run import Run
from smh_jax.training.workdir import Workdir

# Within the folder of a conversion: the run whose weights were drawn to the method's.
_PULLED = "pulled"


def relative_errors(method: Method, variables: Variables, params: Params) -> dict[str, float]:
    """Norm of each hashed tensor's error, made of variables, as a share of its norm in `params`."""
    generated = method.manifest.leaves(jax.jit(method.materialize)(variables))
    wanted = method.manifest.leaves(params)
    errors = {}
    for tensor in method.manifest.hashed:
        exact = np.asarray(wanted[tensor.name], np.float64)
        error = np.linalg.norm(np.asarray(generated[tensor.name], np.float64) - exact)
        errors[tensor.name] = float(error / (np.linalg.norm(exact) or 1.0))
    return errors


@dataclasses.dataclass(frozen=True, eq=False)
class Conversion:
    """What is to be converted to what.

    Attributes:
        run: of the method that is to generate the weights.
        params, model_state: the weights and the model's other collections (batch statistics).
        source: where they come from, for the record.
        variables: of the method, where it has come close to the weights while they were trained
            (`smh_jax.training.pull`); None if they are still to be fitted.
    """

    run: Run
    params: Params
    model_state: dict[str, Any]
    source: str
    variables: Variables | None = None


def of_run(workdir: str | os.PathLike[str], method: MethodConfig | None = None) -> Conversion:
    """Another method on what a run has learned.

    Args:
        workdir: of the run.
        method: None for the one to whose weights those of the run were drawn (`config.pull`).

    Raises:
        ValueError: for a method or size that is impossible, or without one for other runs.
    """
    source = trained.read(workdir)
    if source.config.pool_from is not None:
        raise ValueError(
            f"{workdir} cannot be converted: it has tasks in the pools of "
            f"pool_from={source.config.pool_from}"
        )
    if method is None:
        method = source.config.pull.towards
        if source.run.pull is None:
            raise ValueError(
                f"--workdir goes with --target_size: {workdir} was not drawn to another method's "
                "weights (--steps)"
            )
    # Frozen weights, and what was added to them, are one from here on.
    config = dataclasses.replace(
        source.config,
        method=method,
        init_from=None,
        frozen_from=None,
        pull=PullConfig(),
        elastic=ElasticConfig(),
    )
    run = Run.from_config(config, num_devices=1)
    variables = None
    if source.run.pull is not None and _same(source.run.pull, run.method):
        # In the constants with which they were trained.
        run = dataclasses.replace(run, method=source.run.pull)
        variables = source.pulled
    model_state = source.collections
    params = model_state.pop("params")
    return Conversion(run, params, model_state, str(workdir), variables)


def _same(one: Method, other: Method) -> bool:
    """Whether two methods make weights of the same variables, whatever was measured of a model."""
    names = [tuple(tensor.name for tensor in method.manifest.hashed) for method in (one, other)]
    return names[0] == names[1] and dataclasses.replace(one, manifest=other.manifest) == other


def of_params(path: str, config: Config) -> Conversion:
    """The same for a Flax model's collections on disk, or for another library's pretrained weights.

    `config` says how to use them.

    Raises:
        ValueError: if the file cannot be read, or is of another model.
    """
    if config.elastic.sizes:
        raise ValueError(
            f"elastic.sizes={config.elastic.sizes} must be () here: weights are fitted by one size"
        )
    run = Run.from_config(config.on_one_device(), num_devices=1)
    if pretrained.is_foreign(path):
        collections = pretrained.load(
            config.model.name, path, num_classes=run.model.num_classes, **config.model.options
        )
    else:
        collections = params_file.read(path)
    like = jax.eval_shape(Program.for_run(run, num_examples=1).init_state).model_state
    try:
        params, state = params_file.fit(collections, run.method.manifest, like)
    except ValueError as error:
        raise ValueError(f"params={path} does not fit {config.model.name!r}: {error}") from error
    return Conversion(run, params, state, path)


def learn(
    workdir: str | os.PathLike[str],
    method: MethodConfig,
    output: str | os.PathLike[str],
    *,
    steps: int,
    learning_rate: float | None = None,
    **pull: Any,
) -> Conversion | None:
    """Trains a dense run further while its weights are drawn to those of a method.

    The training is a run in the folder `pulled` of the output; another call resumes it.

    Args:
        workdir: of the dense run, whose configuration it keeps but for what follows.
        method: to whose weights they are drawn.
        output: folder of the conversion.
        steps: of the training.
        learning_rate: its peak, per 256 examples; None for that of the dense run.
        **pull: fields of `PullConfig`.

    Returns:
        What `convert` takes; None if the process was told to end before the end of training.

    Raises:
        ValueError: if the folder is taken, or the run is not dense.
    """
    # Takes seconds to load, which a fit need not wait for.
    from smh_jax.training.loop import train_and_evaluate

    _check_free(output)
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    config, _ = Workdir(workdir).read()
    optimizer = config.optimizer
    if learning_rate is not None:
        optimizer = dataclasses.replace(optimizer, learning_rate=learning_rate)
    config = dataclasses.replace(
        config,
        optimizer=optimizer,
        init_from=str(workdir),
        pull=PullConfig(towards=method, **pull),
    )
    run = Run.from_config(config)
    examples = run.task.load(run.dataset, config.data.train_split, config.data).num_examples
    config = dataclasses.replace(config, epochs=steps * config.data.batch_size / examples)
    folder = Workdir(output).path / _PULLED
    return None if train_and_evaluate(config, folder) is None else of_run(folder)


def _check_free(output: str | os.PathLike[str]) -> None:
    check_reachable(output, "output")
    path = Workdir(output).path
    if path.exists() and any(entry.name != _PULLED for entry in path.iterdir()):
        raise ValueError(f"output={output} is not empty: choose a new folder")


def convert(conversion: Conversion, output: str | os.PathLike[str]) -> dict[str, float]:
    """Fits the method to the weights and writes it as a run at step 0; its `relative_errors`.

    Args:
        conversion: from `of_run`, `of_params` or `learn`.
        output: folder of the new run; `conversion.json` there holds the errors.

    Raises:
        ValueError: if the folder is taken, or the method cannot be fitted to these weights.
    """
    run, params, variables = conversion.run, conversion.params, conversion.variables
    folder = Workdir(output)
    _check_free(output)
    if variables is None:
        variables = run.method.fit(params)
    errors = relative_errors(run.method, variables, params)
    fresh = Program.for_run(run, num_examples=1).init_state()
    state = fresh.starting_from(variables, conversion.model_state)
    folder.describe(run.config, run.method.manifest)
    with Checkpoints(folder.path, keep=1) as checkpoints:
        checkpoints.save(state, progress={})
    summary = {name: n for name, n in run.method.summary.items() if name.startswith("num_")}
    learned = conversion.variables is not None
    content = {"source": conversion.source, "learned": learned, **summary}
    write_json(folder.path / "conversion.json", content | {"relative_errors": errors})
    return errors


def table(method: Method, errors: dict[str, float]) -> str:
    """One line for each hashed tensor: its weights and the relative error of them."""
    width = max(map(len, errors))
    lines = [f"{'tensor':<{width}}  {'weights':>10}  relative error"]
    lines += [
        f"{tensor.name:<{width}}  {tensor.size:>10,}  {errors[tensor.name]:>14.3f}"
        for tensor in method.manifest.hashed
    ]
    return "\n".join(lines)
