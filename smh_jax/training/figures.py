"""Pictures of a run. Each function returns a matplotlib figure; none needs a display."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from smh_jax.manifest import Tensor

TRAIN, TEST, NEUTRAL = "#0072b2", "#d55e00", "#777777"  # apart for every kind of eyes
_STYLE = {
    **{"font.size": 8, "axes.titlesize": 8, "legend.fontsize": 7, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.2},
}
# More lines than this are told apart by a scale of colours in place of a legend.
_MAX_LEGEND = 12
# A singular value below this share of the largest counts as 0.
_RANK_TOLERANCE = 1e-3

Corners = list[tuple[int, int]]


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draws in the style that all pictures share."""

    @functools.wraps(draw)
    def styled(*arguments: Any, **options: Any) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*arguments, **options)

    return styled


@_styled
def training_curves(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Loss, accuracy and learning rate by step.

    Args:
        rows: of metrics.jsonl: `step` and whatever was measured at it.
    """
    figure, axes = _figure(1, 3, width=9.0, height=2.6)
    panels = (
        (axes[0], "loss (nats)", (("train_loss", TRAIN), ("test_loss", TEST))),
        (axes[1], "accuracy (%)", (("train_accuracy", TRAIN), ("test_accuracy", TEST))),
        (axes[2], "learning rate", (("learning_rate", NEUTRAL),)),
    )
    for axis, label, lines in panels:
        for name, color in lines:
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                steps, values = np.transpose(points)
                factor = 100 if "accuracy" in name else 1
                marker = "o" if "test" in name else None
                kind = name.partition("_")[0]
                axis.plot(steps, factor * values, color=color, marker=marker, ms=3, label=kind)
        axis.set(xlabel="step", ylabel=label)
        if len(lines) > 1:
            axis.legend()
    return figure


@_styled
def learned_scales(
    tensors: Sequence[Tensor], starts: Sequence[np.ndarray], learned: Sequence[np.ndarray]
) -> Figure:
    """Each layer's scales after training, alongside those at its start.

    Args:
        tensors: the hashed ones.
        starts, learned: the scales of each tensor: one, or one per channel.
    """
    figure, axis = _figure(1, 1, width=6.0, height=1.0 + 0.19 * len(tensors))
    for y, (start, end) in enumerate(zip(starts, learned, strict=True)):
        # From start to end, one line for each channel.
        axis.plot([start, end], [y, y], color=NEUTRAL, lw=0.7, zorder=1)
        axis.plot(end, np.full(len(end), y), "o", color=TRAIN, ms=4, alpha=1 / len(end) ** 0.3)
        axis.plot(start, np.full(len(start), y), "o", color=TEST, ms=4, mfc="white")
    axis.plot([], [], "o", color=TEST, mfc="white", ms=4, label="start")
    axis.plot([], [], "o", color=TRAIN, ms=4, label="learned")
    axis.set(xlabel="scale, in units of the initializer's deviation", ylim=(len(tensors), -1))
    axis.set_yticks(range(len(tensors)), [t.name for t in tensors], fontsize=6)
    axis.legend()
    return figure


@_styled
def tiled_matrix(
    tensors: Sequence[Tensor], weights: Sequence[np.ndarray], shape: tuple[int, int]
) -> Figure:
    """The matrix into which all weights are tiled (paper, figure 2), layer by layer.

    Left the place of every layer, right the weights in units of their layer's root mean square.

    Args:
        tensors: the hashed ones in order of creation.
        weights: their values.
        shape: rows and columns of the matrix.
    """
    side = shape[1]
    flat = [np.ravel(w) / (np.sqrt(np.mean(np.square(w))) or 1.0) for w in weights]
    matrix = np.full(shape, np.nan)
    matrix.ravel()[: sum(map(len, flat))] = np.concatenate(flat)
    figure, axes = _figure(1, 2, width=8.6, height=4.4)
    colors = matplotlib.colormaps["viridis"].resampled(len(tensors))
    first = 0
    for index, tensor in enumerate(tensors):
        for corners in outline(first, first + tensor.size, side):
            place = Polygon(corners, facecolor=colors(index), edgecolor="white", lw=0.4)
            axes[0].add_patch(place)
            axes[1].add_patch(Polygon(corners, fill=False, edgecolor="black", lw=0.4))
        rows = tensor.size / side
        if rows > shape[0] / 30:
            middle = (first + tensor.size / 2) / side
            dark = index < len(tensors) / 2
            name = "/".join(tensor.path[-3:-1]) or tensor.name
            axes[0].text(
                *(side / 2, middle, f"{name}  {'x'.join(map(str, tensor.shape))}"),
                **{"ha": "center", "va": "center", "fontsize": 6},
                color="white" if dark else "black",
            )
        first += tensor.size
    image = axes[1].imshow(
        matrix,
        **{"cmap": "RdBu_r", "vmin": -3, "vmax": 3, "interpolation": "nearest"},
        extent=(0, side, shape[0], 0),
    )
    for axis, title in zip(axes, ("layers", "weights / root mean square"), strict=True):
        axis.set(xlim=(0, side), ylim=(shape[0], 0), aspect="equal", title=title)
    figure.colorbar(image, ax=axes[1], shrink=0.8)
    return figure


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


@_styled
def singular_values(
    tensors: Sequence[Tensor],
    weights: Sequence[np.ndarray],
    shape: tuple[int, int],
    num_hash_pairs: int | None,
) -> Figure:
    """Singular values of every layer, and of the matrix into which all of them are tiled.

    The tiled matrix may be of low rank while no layer is: a layer's own matrix, [k k in, out], is
    another arrangement of a stretch of it.

    Args:
        tensors: the hashed ones.
        weights: their values, without their scales.
        shape: rows and columns of the matrix into which they are tiled.
        num_hash_pairs: M, of which the tiled matrix's rank is; None if it has no such rank.
    """
    figure, axes = _figure(1, 2, width=8.6, height=3.2)
    kernels = [(t, w) for t, w in zip(tensors, weights, strict=True) if len(t.shape) > 1]
    colors = matplotlib.colormaps["viridis"]
    for index, (tensor, weight) in enumerate(kernels):
        values = np.linalg.svd(np.reshape(weight, (-1, tensor.shape[-1])), compute_uv=False)
        rank = numerical_rank(values)
        position = np.arange(1, len(values) + 1) / len(values)
        name = tensor.name.removesuffix("/kernel")
        color = colors(index / max(1, len(kernels) - 1))
        label = f"{name}: rank {rank} of {len(values)}"
        axes[0].plot(position, values / (values[0] or 1.0), color=color, lw=1, label=label)
    if len(kernels) <= _MAX_LEGEND:
        axes[0].legend(fontsize=5)
    else:
        _depth_bar(figure, axes[0], colors, len(kernels))
    axes[0].set(xlabel="index / number of singular values", ylabel="singular value / largest")
    axes[0].set(title="each layer", ylim=(0, 1.05))

    flat = np.concatenate([np.ravel(weight) for weight in weights])
    matrix = np.pad(flat, (0, math.prod(shape) - flat.size)).reshape(shape)
    tiled = np.linalg.svd(matrix, compute_uv=False)
    axes[1].plot(np.arange(1, len(tiled) + 1), tiled / (tiled[0] or 1.0), color=TRAIN, lw=1)
    if num_hash_pairs is not None:
        axes[1].axvline(num_hash_pairs, color=TEST, lw=1, ls="--", label=f"M = {num_hash_pairs}")
        axes[1].legend()
    axes[1].set(xlabel="index", ylabel="singular value / largest", ylim=(0, 1.05))
    axes[1].set(title=f"all layers, tiled: {shape[0]} x {shape[1]}")
    return figure


def numerical_rank(values: np.ndarray) -> int:
    """Number of singular values above a thousandth of the largest."""
    return int(np.sum(values > _RANK_TOLERANCE * values[0]))


def _depth_bar(figure: Figure, axis: Axes, colors: Colormap, count: int) -> None:
    bar = ScalarMappable(Normalize(1, count), colors)
    figure.colorbar(bar, ax=axis, label="layer, in order of creation")


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    """An empty figure of a size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)
