"""Plots of benchmark results."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.piece import Results


def bars(
    results: Results,
    path: pathlib.Path,
    *,
    label: str,
    value: str,
    title: str,
    axis: str,
    line: float | None = None,
) -> None:
    """A group of bars per case, one bar per row: its key `value`, named by its key `label`."""
    names = list(dict.fromkeys(row[label] for rows in results.values() for row in rows))
    figure, axes = plt.subplots(figsize=(2 + 1.6 * len(results), 4.5))
    width = 0.85 / len(names)
    for index, name in enumerate(names):
        positions, heights = [], []
        for position, rows in enumerate(results.values()):
            for row in rows:
                if row[label] == name and row.get(value) is not None:
                    positions.append(position + (index - (len(names) - 1) / 2) * width)
                    heights.append(row[value])
        axes.bar(positions, heights, width, label=name)
    if line is not None:
        axes.axhline(line, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(results)), [case.replace(":", "\n") for case in results], fontsize=7)
    axes.set_ylabel(axis)
    axes.set_title(title)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def curves(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    path: pathlib.Path,
    *,
    x: str,
    y: Sequence[str],
    line: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Panels side by side, each with named curves of points (x, y).

    Args:
        panels: curves by name, by the panel's title.
        path: of the file.
        x, y: labels of the axes; y one per panel.
        line: height of a line to compare with.
        options: of every panel's axes, as `Axes.set` takes them.
    """
    figure, all_axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4), squeeze=False)
    # A curve has its colour in every panel.
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    for (title, lines), axes, y_label in zip(panels.items(), all_axes[0], y, strict=True):
        for name, points in lines.items():
            axes.plot(
                *zip(*sorted(points), strict=True),
                marker="o",
                markersize=4,
                color=f"C{names.index(name)}",
                label=name,
            )
        if line is not None:
            axes.axhline(line, color="black", linewidth=0.8, linestyle="--")
        axes.set(xlabel=x, ylabel=y_label, title=title, **(options or {}))
        # What was measured, in plain numbers, on logarithmic axes too.
        ticks = sorted({round(x, 1) for points in lines.values() for x, _ in points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    # Below, where it hides no curve.
    named = {
        name: handle
        for axes in all_axes[0]
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        named.values(), named, fontsize=8, ncols=len(named), loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
    )  # fmt: skip
    _save(figure, path)


def _save(figure: Any, path: pathlib.Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
