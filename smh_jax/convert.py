"""Compresses a trained model: pools and scales that come closest to its weights.

python -m smh_jax.convert --workdir=runs/dense --target_size=18750 --output=runs/converted
python -m smh_jax.convert --config=configs/digits.py --params=model.msgpack --output=runs/converted

The output is the folder of a run at step 0, from which the trainer fine-tunes:

python -m smh_jax.main --config=configs/fashion_mnist.py --config.init_from=runs/converted \\
    --config.optimizer.learning_rate=0.2 --workdir=runs/fine_tuned
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags

from smh_jax import arguments, cli, methods, params_file, program, trained
from smh_jax.checkpoint import Checkpoints
from smh_jax.config import Config, MethodConfig, from_config_dict
from smh_jax.manifest import Params
from smh_jax.methods import Method, Variables
from smh_jax.monitor import Stopwatch
from smh_jax.run import Run, build
from smh_jax.workdir import Workdir, write_json

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained run.")
PARAMS = flags.DEFINE_string("params", None, "In its place: a Flax model's params on disk.")
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "With --params: the model, dataset and method.", lock_config=True
)
TARGET_SIZE = flags.DEFINE_integer("target_size", None, "Variables, with --workdir.")
HASHED = flags.DEFINE_string("hashed", "all", "Tensors that are generated, with --workdir.")
OPTIONS = flags.DEFINE_string("options", "", "Of method smh, with --workdir: 'blocks=4,...'.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the new run.", required=True)


def relative_errors(method: Method, variables: Variables, params: Params) -> dict[str, float]:
    """Norm of each tensor's error as a share of the norm of the tensor; 0 where both are 0.

    Args:
        method: with the manifest.
        variables: of the method.
        params: the tree that `materialize` should give.
    """
    made = method.manifest.leaves(jax.jit(method.materialize)(variables))
    wanted = method.manifest.leaves(params)
    errors = {}
    for name, leaf in wanted.items():
        exact = np.asarray(leaf, np.float64)
        error = np.linalg.norm(np.asarray(made[name], np.float64) - exact)
        errors[name] = float(error / (np.linalg.norm(exact) or 1.0)) if error else 0.0
    return errors


def of_run(
    workdir: str | os.PathLike[str], method: MethodConfig
) -> tuple[Run, Params, dict[str, Any]]:
    """The run of another method on what a run has learned, its weights and its batch statistics.

    Args:
        workdir: of the trained run.
        method: of the new run.
    """
    found = trained.read(workdir)
    config = dataclasses.replace(found.config, method=method, init_from=None)
    return build(config, num_devices=1), found.params, found.model_state


def of_params(path: str, config: Config) -> tuple[Run, Params, dict[str, Any]]:
    """The same for a Flax model's collections on disk, which `config` says how to use.

    Raises:
        ValueError: if the file cannot be read, or is of another model.
    """
    run = build(dataclasses.replace(config, batch_norm="local"), num_devices=1)
    collections = params_file.read(path)
    params = collections.pop("params")
    like = jax.eval_shape(program.build(run, num_examples=1).init_state).model_state
    model_state = {name: collections.get(name) for name in like}
    wanted, found = jax.tree.map(jnp.shape, like), jax.tree.map(jnp.shape, model_state)
    if wanted != found:
        wrong = [name for name in wanted if wanted[name] != found[name]]
        raise ValueError(
            f"params={path} has no {', '.join(wrong)} such as model "
            f"{config.model.name!r} needs: save all of its collections"
        )
    state = jax.tree.map(lambda leaf, at: jnp.asarray(leaf, at.dtype), model_state, like)
    return run, params, state


def convert(
    run: Run,
    params: Params,
    model_state: dict[str, Any],
    output: str | os.PathLike[str],
    source: str,
) -> dict[str, float]:
    """Fits the run's method to weights and writes it as a run at step 0.

    Args:
        run: of the new method.
        params, model_state: of the trained model.
        output: folder of the new run; `conversion.json` there holds the errors.
        source: where the weights come from, for the record.

    Returns:
        The relative error of each hashed tensor.

    Raises:
        ValueError: if the folder is taken, or the method cannot be fitted to these weights.
    """
    folder = Workdir(output)
    if folder.path.exists() and any(folder.path.iterdir()):
        raise ValueError(f"output={output} is not empty: choose a new folder")
    variables = run.method.fit(params)
    errors = relative_errors(run.method, variables, params)
    errors = {tensor.name: errors[tensor.name] for tensor in run.method.manifest.hashed}
    state = program.build(run, num_examples=1).init_state()
    state = state.starting_from(variables, model_state)
    folder.describe(run.config, run.method.manifest)
    with Checkpoints(folder.path, keep=1) as checkpoints:
        checkpoints.save(state, Stopwatch().progress())
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


def main(_: list[str]) -> None:
    """Converts and prints the errors."""
    if (WORKDIR.value is None) == (PARAMS.value is None):
        raise ValueError("give either --workdir=... or --params=...")
    if WORKDIR.value is not None:
        if TARGET_SIZE.value is None or CONFIG.value is not None:
            raise ValueError("--workdir goes with --target_size and without --config")
        options = arguments.parse(OPTIONS.value, **methods.default_options("smh"))
        method = MethodConfig("smh", HASHED.value, TARGET_SIZE.value, options.to_dict())
        source, (run, params, state) = WORKDIR.value, of_run(WORKDIR.value, method)
    else:
        if CONFIG.value is None or TARGET_SIZE.value is not None:
            raise ValueError("--params goes with --config, which has the target size")
        source = PARAMS.value
        run, params, state = of_params(source, from_config_dict(CONFIG.value))
    errors = convert(run, params, state, OUTPUT.value, source)
    print(table(run.method, errors))
    counts = run.method.summary
    print(f"{counts['num_variables']:,} variables for {counts['num_weights']:,} weights")
    print(f"fine-tune with --config.init_from={OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
