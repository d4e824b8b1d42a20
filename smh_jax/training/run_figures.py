"""The figures that a run has: what is drawn of it, read from its folder."""

import math

import numpy as np
from etils import epath
from matplotlib.figure import Figure

from smh_jax import methods
from smh_jax.manifest import Tensor
from smh_jax.methods import SMH, Method
from smh_jax.methods.base import PooledMethod
from smh_jax.training import figures, trained
from smh_jax.training.metrics_file import read_rows
from smh_jax.training.trained import Trained


def scales_of(learned: Trained) -> list[np.ndarray]:
    """The learned scales of each hashed tensor."""
    return _cut(learned, np.asarray(learned.variables["scales"]))


def starting_scales(learned: Trained) -> list[np.ndarray]:
    """The scales of each hashed tensor before the first step."""
    if learned.config.init_from is not None:
        source = trained.read(learned.config.init_from)
        return _cut(learned, np.asarray(source.variables["scales"]))
    tensors = learned.run.method.manifest.hashed
    starts = [float(tensor.initial.stddev > 0) for tensor in tensors]
    return _cut(learned, np.repeat(starts, methods.unrounded(learned.run.method).scale_sizes))


def _cut(learned: Trained, scales: np.ndarray) -> list[np.ndarray]:
    return np.split(scales, np.cumsum(methods.unrounded(learned.run.method).scale_sizes)[:-1])


def tiled(learned: Trained) -> tuple[list[Tensor], list[np.ndarray]]:
    """The tensors that are tiled, and their weights; of a dense run those that could be."""
    manifest = learned.run.method.manifest
    tensors = list(manifest.hashed) or [t for t in manifest.tensors if t.layer != "batch_norm"]
    leaves = manifest.leaves(learned.params)
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


def figures_of(workdir: epath.Path) -> dict[str, Figure]:
    """All figures that the run in a folder has, by name."""
    learned = trained.read(workdir)
    method = methods.unrounded(learned.run.method)
    drawn: dict[str, Figure] = {}
    if rows := read_rows(workdir / "metrics.jsonl"):
        drawn["curves"] = figures.training_curves(rows)
    tensors, weights = tiled(learned)
    shape, rank = matrix_of(method, sum(tensor.size for tensor in tensors))
    drawn["matrix"] = figures.tiled_matrix(tensors, weights, shape)
    if "scales" in learned.variables:
        scales = scales_of(learned)
        drawn["scales"] = figures.learned_scales(tensors, starting_scales(learned), scales)
    if isinstance(method, PooledMethod):
        unscaled = method.generate(learned.variables["pools"])
        weights = [np.asarray(weight, np.float64) for weight in unscaled]
    drawn["spectra"] = figures.singular_values(tensors, weights, shape, rank)
    return drawn
