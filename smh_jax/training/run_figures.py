"""The pictures that a run has: what is drawn of it, read from its folder."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict

from smh_jax import methods
from smh_jax.config import to_json_dict
from smh_jax.manifest import Manifest, Tensor
from smh_jax.methods import SMH, Method
from smh_jax.methods.base import PooledMethod
from smh_jax.training import figures, trained
from smh_jax.training.metrics_file import read_rows
from smh_jax.training.pictures.names import data_name, model_name
from smh_jax.training.pictures.panels import Picture
from smh_jax.training.pictures.report import Section, Table
from smh_jax.training.run import Run
from smh_jax.training.trained import Trained
from smh_jax.training.workdir import Workdir


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
    return _cut(learned, np.repeat(starts, methods.innermost(learned.run.method).scale_sizes))


def _cut(learned: Trained, scales: np.ndarray) -> list[np.ndarray]:
    return np.split(scales, np.cumsum(methods.innermost(learned.run.method).scale_sizes)[:-1])


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


def cancelled_scales(manifest: Manifest) -> list[str]:
    """Names of the hashed tensors right after which the model creates a batch norm."""
    pairs = zip(manifest.tensors, manifest.tensors[1:], strict=False)
    return [t.name for t, following in pairs if t.hashed and following.layer == "batch_norm"]


def pictures_of(workdir: epath.Path) -> dict[str, tuple[Picture, ...]]:
    """All pictures that the run in a folder has, by name."""
    learned = trained.read(workdir)
    method = methods.innermost(learned.run.method)
    about = _about(learned)
    drawn: dict[str, tuple[Picture, ...]] = {}
    if rows := read_rows(workdir / "metrics.jsonl"):
        drawn["curves"] = figures.training_curves(rows, about)
    if sizes := (Workdir(workdir).result() or {}).get("sizes"):
        drawn["sizes"] = (figures.accuracy_by_size(sizes, about),)
    tensors, weights = tiled(learned)
    shape, rank = matrix_of(method, sum(tensor.size for tensor in tensors))
    drawn["matrix"] = figures.tiled_matrix(tensors, weights, shape, about)
    if "scales" in learned.variables:
        scales, cancelled = scales_of(learned), cancelled_scales(method.manifest)
        starts = starting_scales(learned)
        drawn["scales"] = (figures.learned_scales(tensors, starts, scales, cancelled, about),)
    if isinstance(method, PooledMethod):
        unscaled = method.generate(learned.run.method.exported(learned.variables)["pools"])
        weights = [np.asarray(weight, np.float64) for weight in unscaled]
    drawn["spectra"] = figures.singular_values(tensors, weights, shape, rank, about)
    return drawn


def _about(learned: Trained) -> str:
    config, method = learned.config, learned.run.method
    size = "" if method.name == "dense" else f" with {method.num_variables:,}"
    return (
        f"{model_name(config.model.name)}, {method.name}{size} of "
        f"{method.manifest.num_weights:,} variables, {data_name(config.data)}, seed {config.seed}, "
        f"step {learned.step:,}."
    )


def sections_of(workdir: epath.Path, pictures: Mapping[str, tuple[Picture, ...]]) -> list[Section]:
    """The report of a run: its result, pictures, tensors and configuration.

    Args:
        workdir: folder of the run.
        pictures: those of `pictures_of`.
    """
    run, result = Run.in_folder(workdir), Workdir(workdir).result()
    named = {t.name: t for t in run.method.manifest.tensors}
    tensors = [
        [name, " x ".join(map(str, t.shape)), f"{t.size:,}", "generated" if t.hashed else "stored"]
        for name, t in named.items()
    ]
    text = "The run is not complete: no result is there yet." if result is None else ""
    return [
        Section("Result", text, _fields(result or {})),
        *(Section(pictures=shown) for shown in pictures.values()),
        Section("Tensors", table=Table(["tensor", "shape", "size", ""], tensors, text=(0, 1, 3))),
        Section("Configuration", table=_fields(to_json_dict(run.config))),
    ]


def _fields(content: Mapping[str, Any]) -> Table:
    flat = flatten_dict(dict(content), sep=".")
    rows = [[name, "" if value is None else str(value)] for name, value in flat.items()]
    return Table(["field", "value"], rows, text=(0, 1))
