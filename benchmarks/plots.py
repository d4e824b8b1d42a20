"""Pictures of benchmark results."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.benchmark import Benchmark, Results

_LINE = {"color": "black", "linewidth": 0.8, "linestyle": "--"}


def draw(benchmark: Benchmark, results: Results, path: pathlib.Path) -> None:
    """Draws results into a PNG file."""
    with matplotlib.rc_context({"savefig.bbox": "tight"}):
        if benchmark.bars:
            figure = bars(results, **benchmark.bars)
        else:
            figure = curves(results, **benchmark.curves)
        figure.savefig(path, dpi=110)


def bars(results: Results, value: str, title: str, label: str, line: float) -> Figure:
    """A group of bars per case and a bar per method, and a line to compare with."""
    names = list(dict.fromkeys(row["method"] for rows in results.values() for row in rows))
    figure = Figure(figsize=(2 + 1.6 * len(results), 4.5))
    axes = figure.subplots()
    width = 0.85 / len(names)
    for index, name in enumerate(names):
        points = [
            (position + (index - (len(names) - 1) / 2) * width, row[value])
            for position, rows in enumerate(results.values())
            for row in rows
            if row["method"] == name and row.get(value) is not None
        ]
        axes.bar(*zip(*points, strict=True), width, label=name)
    axes.axhline(line, **_LINE)
    axes.set_xticks(range(len(results)), [case.replace(":", "\n") for case in results], fontsize=7)
    axes.set(ylabel=label, title=title)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def curves(
    results: Results,
    x: str,
    x_label: str,
    measures: Sequence[tuple[str, str, str]],
    without: str = "",
    line: float | None = None,
    log: bool = False,
) -> Figure:
    """A panel per model and measure, and a curve per method.

    Args:
        results: what is drawn.
        x: the rows' key that is drawn along the axis, on a logarithmic one with `log`.
        measures: a panel's title, formatted with the row, the rows' key and the axis' label.
        without: method that has no curve, such as the reference.
        line: height of a line to compare with, or None.
    """
    panels: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for row in (row for rows in results.values() for row in rows):
        for title, key, y_label in measures:
            if row["method"] != without:
                panel = panels.setdefault((title.format(**row), y_label), {})
                panel.setdefault(row["method"], []).append((row[x], row[key]))
    figure = Figure(figsize=(5 * len(panels), 4), layout="tight")
    # A curve has its color in every panel.
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    handles: dict[str, Any] = {}
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ((title, y_label), panel), axes in zip(panels.items(), all_axes, strict=True):
        for name, points in panel.items():
            xs, ys = zip(*sorted(points), strict=True)
            (handles[name],) = axes.plot(xs, ys, "o-", ms=4, color=f"C{names.index(name)}")
        if line is not None:
            axes.axhline(line, **_LINE)
        axes.set(xlabel=x_label, ylabel=y_label, title=title)
        axes.set_xscale("log" if log else "linear")
        # What was measured, in plain numbers, on logarithmic axes too.
        ticks = sorted({round(tick, 1) for points in panel.values() for tick, _ in points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    # Below, where it hides no curve.
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
    figure.legend(handles.values(), handles, fontsize=8, ncols=len(handles), **below)
    return figure
