"""Pictures of a run: python -m smh_jax.plot --workdir=runs/digits

Writes, into the run's folder or `--output`:

curves    loss, accuracy and learning rate by step
scales    each layer's learned scale beside its start
matrix    the matrix into which all weights are tiled, with its layers outlined
spectra   singular values of the generated layers, and of that matrix
"""

import json
import math
import pathlib
from typing import Any

import numpy as np
from absl import flags

try:
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise SystemExit("error: pictures need matplotlib: pip install 'smh_jax[plot]'") from error

from smh_jax import cli
from smh_jax.manifest import Tensor
from smh_jax.methods import Method
from smh_jax.methods.base import PooledMethod
from smh_jax.methods.smh import SMH
from smh_jax.training import figures, trained
from smh_jax.training.trained import Trained

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder of the pictures; WORKDIR/plots by default.")
FORMAT = flags.DEFINE_enum("format", "png", ["png", "pdf", "svg"], "Of the pictures.")
DPI = flags.DEFINE_integer("dpi", 200, "Dots per inch of images.", lower_bound=1)


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; none for a run at step 0."""
    path = workdir / "metrics.jsonl"
    return [json.loads(row) for row in path.read_text().splitlines()] if path.exists() else []


def scales_of(found: Trained) -> list[np.ndarray]:
    """The learned scales of each hashed tensor."""
    return _cut(found, np.asarray(found.variables["scales"]))


def starting_scales(found: Trained) -> list[np.ndarray]:
    """The scales of each hashed tensor before the first step."""
    if found.config.init_from is not None:
        source = trained.read(found.config.init_from)
        return _cut(found, np.asarray(source.variables["scales"]))
    tensors = found.run.method.manifest.hashed
    starts = [float(tensor.initial.stddev > 0) for tensor in tensors]
    return _cut(found, np.repeat(starts, found.run.method.scale_sizes))


def _cut(found: Trained, scales: np.ndarray) -> list[np.ndarray]:
    return np.split(scales, np.cumsum(found.run.method.scale_sizes)[:-1])


def tiled(found: Trained) -> tuple[list[Tensor], list[np.ndarray]]:
    """The tensors that are tiled, and their weights; of a dense run those that could be."""
    manifest = found.run.method.manifest
    tensors = list(manifest.hashed) or [t for t in manifest.tensors if t.layer != "batch_norm"]
    leaves = manifest.leaves(found.params)
    return tensors, [np.asarray(leaves[t.name], np.float64) for t in tensors]


def matrix_of(method: Method, num_weights: int) -> tuple[tuple[int, int], int | None]:
    """Rows and columns of the matrix into which a method tiles its weights, and its rank M.

    The smallest square and None for methods without such a matrix, and for blocks and Kronecker
    products, which have theirs in another arrangement.
    """
    if isinstance(method, SMH) and (method.blocks, method.layout) == (1, "matmul"):
        rows, columns = method.matrix_shape
        if rows * columns >= num_weights:
            return (rows, columns), method.num_hash_pairs
    side = math.isqrt(num_weights - 1) + 1
    return (side, side), None


def pictures(workdir: pathlib.Path) -> dict[str, Figure]:
    """All figures that the run has, by name."""
    found = trained.read(workdir)
    method = found.run.method
    made: dict[str, Figure] = {}
    if rows := read_metrics(workdir):
        made["curves"] = figures.training_curves(rows)
    tensors, weights = tiled(found)
    shape, rank = matrix_of(method, sum(tensor.size for tensor in tensors))
    made["matrix"] = figures.tiled_matrix(tensors, weights, shape)
    if "scales" in found.variables:
        scales = scales_of(found)
        made["scales"] = figures.learned_scales(tensors, starting_scales(found), scales)
    if isinstance(method, PooledMethod):
        unscaled = method.generate(found.variables["pools"])
        weights = [np.asarray(weight, np.float64) for weight in unscaled]
    made["spectra"] = figures.singular_values(tensors, weights, shape, rank)
    return made


def main(_: list[str]) -> None:
    """Writes the pictures and prints their names."""
    workdir = pathlib.Path(WORKDIR.value)
    output = pathlib.Path(OUTPUT.value) if OUTPUT.value else workdir / "plots"
    made = pictures(workdir)
    output.mkdir(parents=True, exist_ok=True)
    for name, figure in made.items():
        path = output / f"{name}.{FORMAT.value}"
        figure.savefig(path, dpi=DPI.value)
        print(path)


if __name__ == "__main__":
    cli.run(main)
