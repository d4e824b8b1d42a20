"""What the pictures of a run show. Each function returns pictures as data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from smh_jax.manifest import Tensor
from smh_jax.training.pictures.colors import NEUTRAL, color_of
from smh_jax.training.pictures.panels import Matrix, Panel, Point, Series

TRAIN, TEST = color_of("smh"), color_of("10 hashes")
# More lines than this have no names of their own, but the colors of their order.
_MAX_LEGEND = 12
# A singular value below this share of the largest counts as 0.
_RANK_TOLERANCE = 1e-3

Corners = list[tuple[int, int]]


def training_curves(rows: Sequence[dict[str, Any]], about: str = "") -> tuple[Panel, ...]:
    """Loss, accuracy and learning rate by step.

    Args:
        rows: of metrics.jsonl: `step` and whatever was measured at it.
        about: which run it is.
    """
    both = (("train", TRAIN, ""), ("test", TEST, "o"))
    panels = (
        ("Loss", "loss (nats)", "loss", 1, both),
        ("Accuracy", "accuracy (%)", "accuracy", 100, both),
        ("Learning rate", "learning rate", "learning_rate", 1, (("", NEUTRAL, ""),)),
    )
    drawn = []
    for title, label, measure, factor, kinds in panels:
        series = []
        for kind, color, marker in kinds:
            name = f"{kind}_{measure}".removeprefix("_")
            points = tuple(Point(row["step"], factor * row[name]) for row in rows if name in row)
            if points:
                series.append(Series(kind, points, color, marker))
        if series:
            note = "Training: mean since the point before; test: the whole split."
            caption = f"{about} {note}" if len(kinds) > 1 else about
            drawn.append(Panel(title, caption.strip(), "step", label, tuple(series)))
    return tuple(drawn)


def accuracy_by_size(sizes: Sequence[Mapping[str, Any]], about: str = "") -> Panel:
    """Test accuracy against variables, of every size of an elastic run.

    Args:
        sizes: as result.json has them, rising: `num_variables` and `accuracy`.
        about: which run it is.
    """
    points = tuple(Point(size["num_variables"], 100 * size["accuracy"]) for size in sizes)
    return Panel(
        "Accuracy by size",
        f"{about} One run, cut to each of its sizes.".strip(),
        "variables",
        "test accuracy (%)",
        (Series("", points, TEST),),
    )


def learned_scales(
    tensors: Sequence[Tensor],
    starts: Sequence[np.ndarray],
    learned: Sequence[np.ndarray],
    cancelled: Sequence[str] = (),
    about: str = "",
) -> Panel:
    """Each layer's scales after training, alongside those at its start.

    Args:
        tensors: the hashed ones.
        starts, learned: the scales of each tensor: one, or one per channel.
        cancelled: names of the tensors whose scale batch norm cancels.
        about: which run it is.
    """

    def points(scales: Sequence[np.ndarray]) -> tuple[Point, ...]:
        return tuple(
            Point(index, float(value), text=tensor.name)
            for index, (tensor, values) in enumerate(zip(tensors, scales, strict=True))
            for value in values
        )

    caption = f"{about} One point per scale."
    if cancelled:
        caption += (
            " * The next layer is batch norm, which cancels this scale: it changes the effective "
            "learning rate, and nothing of what the network computes."
        )
    return Panel(
        "Learned scales",
        caption.strip(),
        "",
        "scale, in units of the initializer's standard deviation",
        (
            Series("start", points(starts), TEST, line="", filled=False),
            Series("learned", points(learned), TRAIN, line=""),
        ),
        categories=tuple(t.name + " *" * (t.name in cancelled) for t in tensors),
    )


def tiled_matrix(
    tensors: Sequence[Tensor],
    weights: Sequence[np.ndarray],
    shape: tuple[int, int],
    about: str = "",
) -> tuple[Matrix, Matrix]:
    """The matrix into which all weights are tiled (paper, figure 2), layer by layer.

    First the place of every layer, then the weights in units of their layer's root mean square.

    Args:
        tensors: the hashed ones in order of creation.
        weights: their values.
        shape: rows and columns of the matrix.
        about: which run it is.
    """
    flat = [np.ravel(w) / (np.sqrt(np.mean(np.square(w))) or 1.0) for w in weights]
    matrix, order = np.full(shape, np.nan), np.full(shape, np.nan)
    matrix.ravel()[: sum(map(len, flat))] = np.concatenate(flat)
    order.ravel()[: sum(map(len, flat))] = np.repeat(np.arange(len(flat)), list(map(len, flat)))
    regions, first = [], 0
    for tensor in tensors:
        name = "/".join(tensor.path[-3:-1]) or tensor.name
        name = f"{name}  {' x '.join(map(str, tensor.shape))}"
        places = outline(first, first + tensor.size, shape[1])
        regions += [(name, tuple(corners)) for corners in places]
        first += tensor.size
    return (
        Matrix(
            f"Layers in the matrix of {shape[0]} x {shape[1]}",
            f"{about} All generated weights, row by row in order of creation.".strip(),
            *(order, tuple(regions), "viridis", (0.0, float(len(tensors)))),
        ),
        Matrix(
            "Weights",
            f"{about} In units of the root mean square of each layer.".strip(),
            *(matrix, tuple(("", corners) for _, corners in regions), "RdBu_r", (-3.0, 3.0)),
            bar="weight / root mean square of its layer",
        ),
    )


def outline(first: int, last: int, side: int) -> list[Corners]:
    """Polygons around entries `first` to `last - 1` of a row-major matrix of `side` columns.

    Corners are (column, row). Usually one polygon; two where the entries are the end of one row
    and the beginning of the next, which do not touch.
    """
    top, left = divmod(first, side)
    bottom, right = divmod(last, side)  # the entry after the last one
    if right == 0:
        bottom, right = bottom - 1, side
    if top == bottom:
        return [[(left, top), (right, top), (right, top + 1), (left, top + 1)]]
    if bottom == top + 1 and right <= left:
        return outline(first, bottom * side, side) + outline(bottom * side, last, side)
    corners = [(left, top), (side, top), (side, bottom), (right, bottom), (right, bottom + 1)]
    return [[*corners, (0, bottom + 1), (0, top + 1), (left, top + 1)]]


def singular_values(
    tensors: Sequence[Tensor],
    weights: Sequence[np.ndarray],
    shape: tuple[int, int],
    num_hash_pairs: int | None,
    about: str = "",
) -> tuple[Panel, Panel]:
    """Singular values of every layer, and of the matrix into which all of them are tiled.

    The tiled matrix may be of low rank while no layer is: a layer's own matrix, [k k in, out], is
    another arrangement of a stretch of it.

    Args:
        tensors: the hashed ones.
        weights: their values, without their scales.
        shape: rows and columns of the matrix into which they are tiled.
        num_hash_pairs: M, of which the tiled matrix's rank is; None if it has no such rank.
        about: which run it is.
    """
    kernels = [(t, w) for t, w in zip(tensors, weights, strict=True) if len(t.shape) > 1]
    colors = matplotlib.colormaps["viridis"]
    layers = []
    for index, (tensor, weight) in enumerate(kernels):
        values = np.linalg.svd(np.reshape(weight, (-1, tensor.shape[-1])), compute_uv=False)
        name = tensor.name.removesuffix("/kernel")
        name = f"{name}: rank {numerical_rank(values)} of {len(values)}"
        positions = np.arange(1, len(values) + 1) / len(values)
        points = _points(positions, values, name)
        color = to_hex(colors(0.95 * index / max(1, len(kernels) - 1)))
        shown = name if len(kernels) <= _MAX_LEGEND else ""
        layers.append(Series(shown, points, color, marker=""))
    flat = np.concatenate([np.ravel(weight) for weight in weights])
    matrix = np.pad(flat, (0, math.prod(shape) - flat.size)).reshape(shape)
    tiled = np.linalg.svd(matrix, compute_uv=False)
    rank_line: tuple[Series, ...] = ()
    title = f"Singular values of all layers, tiled into {shape[0]} x {shape[1]}"
    if num_hash_pairs is not None:
        # A vertical line, from top to bottom.
        line = (Point(num_hash_pairs, 0.0), Point(num_hash_pairs, 1.0))
        rank_line = (Series(f"M = {num_hash_pairs}", line, TEST, marker="", line="dashed"),)
    note = " Dark lines are the first layers." if len(kernels) > _MAX_LEGEND else ""
    y_label = "singular value / largest"
    return (
        Panel(
            "Singular values of each layer",
            f"{about} Each layer as a matrix [k k in, out].{note}".strip(),
            *("index / number of singular values", y_label, tuple(layers)),
            from_zero=True,
        ),
        Panel(
            title,
            f"{about} The same weights as they are generated, all in one matrix.".strip(),
            *("index", y_label),
            (
                Series("all layers", _points(np.arange(1, len(tiled) + 1), tiled), TRAIN, ""),
                *rank_line,
            ),
        ),
    )


def _points(positions: np.ndarray, values: np.ndarray, text: str = "") -> tuple[Point, ...]:
    shares = values / (values[0] or 1.0)
    pairs = zip(positions.tolist(), shares.tolist(), strict=True)
    return tuple(Point(x, y, text=text) for x, y in pairs)


def numerical_rank(values: np.ndarray) -> int:
    """Number of singular values above a thousandth of the largest."""
    return int(np.sum(values > _RANK_TOLERANCE * values[0]))
