"""From a trained model's weights to a run of a method that generates them, at step 0."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smh_jax.config import Config, MethodConfig
from smh_jax.config.files import write_json
from smh_jax.manifest import Params
from smh_jax.methods import Method, Variables
from smh_jax.shipping import params_file, pretrained
from smh_jax.training import trained
from smh_jax.training.checkpoint import Checkpoints
from smh_jax.training.program import Program
from smh_jax.training.run import Run
from smh_jax.training.workdir import Workdir


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


def of_run(
    workdir: str | os.PathLike[str], method: MethodConfig
) -> tuple[Run, Params, dict[str, Any]]:
    """The run of another method on what a run has learned, its weights and batch statistics."""
    source = trained.read(workdir)
    config = dataclasses.replace(source.config, method=method, init_from=None)
    return Run.from_config(config, num_devices=1), source.params, source.model_state


def of_params(path: str, config: Config) -> tuple[Run, Params, dict[str, Any]]:
    """The same for a Flax model's collections on disk, or for another library's pretrained weights.

    `config` says how to use them.

    Raises:
        ValueError: if the file cannot be read, or is of another model.
    """
    run = Run.from_config(dataclasses.replace(config, batch_norm="local"), num_devices=1)
    if pretrained.is_foreign(path):
        collections = pretrained.load(
            config.model.name, path, num_classes=run.model.num_classes, **config.model.options
        )
    else:
        collections = params_file.read(path)
    like = jax.eval_shape(Program.for_run(run, num_examples=1).init_state).model_state
    state = {name: collections.get(name) for name in like}
    wanted, given = jax.tree.map(jnp.shape, like), jax.tree.map(jnp.shape, state)
    wrong = [name for name in like if wanted[name] != given[name]]
    if wrong:
        raise ValueError(
            f"params={path} has no {', '.join(wrong)} such as model "
            f"{config.model.name!r} needs: save all of its collections"
        )
    state = jax.tree.map(lambda leaf, at: jnp.asarray(leaf, at.dtype), state, like)
    return run, collections["params"], state


def convert(
    run: Run,
    params: Params,
    model_state: dict[str, Any],
    output: str | os.PathLike[str],
    source: str,
) -> dict[str, float]:
    """Fits the run's method to weights and writes it as a run at step 0; its `relative_errors`.

    Args:
        run, params, model_state: from `of_run` or `of_params`.
        output: folder of the new run; `conversion.json` there holds the errors.
        source: where the weights come from, for the record.

    Raises:
        ValueError: if the folder is taken, or the method cannot be fitted to these weights.
    """
    folder = Workdir(output)
    if folder.path.exists() and any(folder.path.iterdir()):
        raise ValueError(f"output={output} is not empty: choose a new folder")
    variables = run.method.fit(params)
    errors = relative_errors(run.method, variables, params)
    fresh = Program.for_run(run, num_examples=1).init_state()
    state = fresh.starting_from(variables, model_state)
    folder.describe(run.config, run.method.manifest)
    with Checkpoints(folder.path, keep=1) as checkpoints:
        checkpoints.save(state, progress={})
    summary = {name: n for name, n in run.method.summary.items() if name.startswith("num_")}
    content = {"source": source, **summary, "relative_errors": errors}
    write_json(folder.path / "conversion.json", content)
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
