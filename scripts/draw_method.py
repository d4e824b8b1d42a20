"""Draws the picture of the method that README and docs show.

python -m scripts.draw_method --output=docs/images/method.svg
"""

import os

import matplotlib
from absl import flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle

from smh_jax import cli
from smh_jax.training.figures import outline

OUTPUT = flags.DEFINE_string("output", "docs/images/method.svg", "The file to write.")

_SIDE, _RANK = 12, 2
# Entries of each layer, in order of creation, and the shape that is written on it.
_LAYERS = (
    ("conv 1", 20, "#0072b2", "3x3x3x16"),
    ("conv 2", 40, "#009e73", "3x3x16x16"),
    ("conv 3", 52, "#e69f00", "3x3x16x32"),
    ("classifier", 24, "#cc79a7", "64x10"),
)
_STYLE = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "smh_jax"}
_INK, _POOL = "#333333", "#d9d9d9"


def draw() -> Figure:
    """Two thin matrices, their product with the layers tiled into it, and the scaled layers."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.0, 3.1))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 48), ylim=(18.6, 0), aspect="equal")
        axes.axis("off")
        _matrix(axes, (1, 3), _RANK, _SIDE, "U", "n x M")
        _text(axes, 4.2, 9, "@", size=12)
        _matrix(axes, (5.4, 8), _SIDE, _RANK, "V", "M x n")
        _text(axes, 19.2, 9, "=", size=14)
        _tiled(axes, (21, 3))
        _text(axes, 27, 1.7, "W = U V, n x n", size=10)
        _layers(axes, 35)
        _text(axes, 8.5, 17.4, "trained: U, V and one scale per layer", color="#b2182b")
        _text(axes, 27, 17.4, "all weights, row by row", color=_INK)
        _text(axes, 41, 17.4, "the model's own kernels", color=_INK)
    return figure


def _text(axes: Axes, x: float, y: float, text: str, size: float = 9, color: str = _INK) -> None:
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=color)


def _matrix(axes: Axes, corner, width: float, height: float, name: str, shape: str) -> None:
    x, y = corner
    axes.add_patch(Rectangle(corner, width, height, facecolor=_POOL, edgecolor="#b2182b", lw=1.4))
    _text(axes, x + width / 2, y + height / 2, name, size=12)
    _text(axes, x + width / 2, y - 0.9, shape, size=8)


def _tiled(axes: Axes, corner) -> None:
    """The layers' places in the product; the last entries are left over."""
    left, top = corner
    axes.add_patch(Rectangle(corner, _SIDE, _SIDE, facecolor="white", edgecolor=_INK, lw=1))
    first = 0
    for name, size, color, _ in _LAYERS:
        for corners in outline(first, first + size, _SIDE):
            moved = [(left + x, top + y) for x, y in corners]
            axes.add_patch(Polygon(moved, facecolor=color, edgecolor="white", lw=1.2))
        middle = (first + size / 2) / _SIDE
        _text(axes, left + _SIDE / 2, top + middle, name, color="white")
        first += size


def _layers(axes: Axes, left: float) -> None:
    """Each layer, multiplied by its scale, in its own shape."""
    first = 0
    for index, (_, size, color, shape) in enumerate(_LAYERS):
        middle, y = 3 + (first + size / 2) / _SIDE, 3.9 + 3.4 * index
        arrow = FancyArrowPatch(
            (33.2, middle), (left + 3.6, y), arrowstyle="-|>", mutation_scale=9, color=color, lw=1.2
        )
        axes.add_patch(arrow)
        _text(axes, left + 0.4, (middle + y) / 2 - 0.75, f"x s{index + 1}", size=8, color="#b2182b")
        box = Rectangle((left + 4, y - 1), 8, 2, facecolor=color, edgecolor="white")
        axes.add_patch(box)
        _text(axes, left + 8, y, shape, color="white")
        first += size


def save(path: str | os.PathLike[str]) -> None:
    """Draws into a file; the same program gives the same bytes."""
    with matplotlib.rc_context(_STYLE):
        draw().savefig(path, metadata={"Date": None})


def main(_: list[str]) -> None:
    """Writes the file."""
    save(OUTPUT.value)
    print(OUTPUT.value)


if __name__ == "__main__":
    cli.run(main)
