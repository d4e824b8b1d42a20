"""Pictures on paper, drawn with matplotlib; none needs a display."""

import io
import math
import textwrap
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Polygon

from smh_jax.training.pictures.panels import Matrix, Panel, Picture

_STYLE = {
    "font.size": 8, "axes.titlesize": 8, "legend.fontsize": 7.5, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    "axes.axisbelow": True, "svg.hashsalt": "smh_jax", "figure.constrained_layout.h_pad": 0.05,
}  # fmt: skip
_DASHES = {"solid": "-", "dashed": "--", "": ""}
# Inches, and characters of a caption in one.
_WIDTH, _HEIGHT, _CHARACTERS = 6.8, 3.4, 17.5
# Characters of a line of a category's name.
_NAME = 46
# A region is named that is at least this share of the matrix high.
_NAMED = 1 / 30


def draw(pictures: Sequence[Picture], title: str = "", columns: int = 2) -> Figure:
    """Draws each picture with its title above and its caption below, in rows of `columns`.

    The title of the whole is left out over a single picture.
    """
    columns = min(columns, len(pictures))
    rows = [pictures[first : first + columns] for first in range(0, len(pictures), columns)]
    heights = [max(map(_height, row)) for row in rows]
    with matplotlib.rc_context(_STYLE):
        whole = 0.35 if title and len(pictures) > 1 else 0.0
        figure = Figure(figsize=(_WIDTH * columns, whole + sum(heights)), layout="constrained")
        if whole:
            figure.suptitle(title, x=0.005, ha="left", fontsize=11, fontweight="bold")
        parts = figure.subfigures(len(rows), columns, squeeze=False, height_ratios=heights)
        for place, picture in zip(parts.flat, pictures, strict=False):
            _draw_one(place, picture)
    return figure


def encode(figure: Figure, kind: str, dpi: int = 300) -> bytes:
    """The bytes of a file of a format ('png', 'svg', 'pdf'): the same for the same picture."""
    file = io.BytesIO()
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(file, format=kind, dpi=dpi, metadata=undated[kind])
    return file.getvalue()


def _height(picture: Picture) -> float:
    """Inches."""
    if isinstance(picture, Matrix):
        return 4.6
    lines = sum(max(1, math.ceil(len(name) / _NAME)) for name in picture.categories)
    side_by_side = len(picture.series) if picture.dodge else 1
    rows = max(len(picture.categories) * max(1, 0.35 * side_by_side), lines)
    return max(_HEIGHT if not rows else 2.0, 1.3 + 0.2 * rows, 0.8 + 0.17 * len(picture.series))


def _draw_one(place: SubFigure, picture: Picture) -> None:
    axes = place.subplots()
    place.suptitle(picture.title, x=0.01, ha="left", fontsize=9, fontweight="bold")
    caption = textwrap.fill(picture.caption, round(_WIDTH * _CHARACTERS))
    place.supxlabel(caption, x=0.01, ha="left", fontsize=7, color="#444444")
    if isinstance(picture, Matrix):
        _matrix(place, axes, picture)
    else:
        _panel(axes, picture)


def _panel(axes: Axes, panel: Panel) -> None:
    listed = bool(panel.categories)
    for level in panel.levels:
        across, band = (axes.axvline, axes.axvspan) if listed else (axes.axhline, axes.axhspan)
        across(level.y, color=level.color, linestyle="--", linewidth=1, label=level.name or None)
        if level.error:
            band(level.y - level.error, level.y + level.error, color=level.color, alpha=0.1, lw=0)
    for index, series in enumerate(panel.series):
        xs, ys = panel.positions(index), [point.y for point in series.points]
        errors = [point.error or 0.0 for point in series.points]
        xs, ys, bars = (ys, xs, "xerr") if listed else (xs, ys, "yerr")
        axes.errorbar(
            xs, ys, **{bars: errors if any(errors) else None}, color=series.color, capsize=2,
            fmt=series.marker, markersize=4.5, linestyle=_DASHES[series.line], linewidth=1.2,
            elinewidth=1, mfc=None if series.filled else "white", label=series.name or None,
        )  # fmt: skip
    if listed:
        names = [textwrap.fill(name, _NAME) for name in panel.categories]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        for between in range(1, len(names) if panel.dodge and len(panel.series) > 1 else 0):
            axes.axhline(between - 0.5, color="#dddddd", linewidth=0.6)
        axes.set(xlabel=panel.y_label, ylabel=panel.x_label)
    else:
        axes.set_xscale("log" if panel.log_x else "linear")
        if panel.ticks:
            axes.set_xticks(*zip(*panel.ticks, strict=True))
            axes.set_xticks([], minor=True)
        axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.from_zero:
        (axes.set_xlim if listed else axes.set_ylim)(0)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def _matrix(place: SubFigure, axes: Axes, matrix: Matrix) -> None:
    rows, columns = matrix.values.shape
    low, high = matrix.limits
    image = axes.imshow(
        matrix.values, cmap=matrix.colors, vmin=low, vmax=high, interpolation="nearest",
        extent=(0, columns, rows, 0),
    )  # fmt: skip
    for name, corners in matrix.regions:
        axes.add_patch(Polygon(corners, fill=False, edgecolor="black", lw=0.4))
        top, bottom = (f(row for _, row in corners) for f in (min, max))
        if name and bottom - top > max(1, _NAMED * rows):
            axes.text(
                *(columns / 2, (top + bottom) / 2, name), ha="center", va="center", fontsize=6,
                bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1},
            )  # fmt: skip
    axes.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
    axes.grid(visible=False)
    if matrix.bar:
        place.colorbar(image, ax=axes, shrink=0.8, label=matrix.bar)
