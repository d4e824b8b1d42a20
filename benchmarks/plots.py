"""Pictures of benchmark results."""

import pathlib
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.benchmark import Bars, Curves, Results


def draw(plot: Curves | Bars, results: Results, path: pathlib.Path) -> None:
    """Draws results into a PNG file."""
    with matplotlib.rc_context({"savefig.bbox": "tight"}):
        figure = _bars(plot, results) if isinstance(plot, Bars) else _curves(plot, results)
        figure.savefig(path, dpi=110)


def _bars(plot: Bars, results: Results) -> Figure:
    names = list(dict.fromkeys(row["method"] for rows in results.values() for row in rows))
    figure = Figure(figsize=(2 + 1.6 * len(results), 4.5))
    axes = figure.subplots()
    width = 0.85 / len(names)
    for index, name in enumerate(names):
        points = [
            (position + (index - (len(names) - 1) / 2) * width, row[plot.value])
            for position, rows in enumerate(results.values())
            for row in rows
            if row["method"] == name and row.get(plot.value) is not None
        ]
        axes.bar(*zip(*points, strict=True), width, label=name)
    _compare(axes, plot.line)
    axes.set_xticks(range(len(results)), [case.replace(":", "\n") for case in results], fontsize=7)
    axes.set(ylabel=plot.label, title=plot.title)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _curves(plot: Curves, results: Results) -> Figure:
    panels: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for rows in results.values():
        for row in rows:
            for title, key, y_label in plot.measures:
                if row["method"] != plot.without:
                    panel = panels.setdefault((title.format(**row), y_label), {})
                    panel.setdefault(row["method"], []).append((row[plot.x], row[key]))
    figure = Figure(figsize=(5 * len(panels), 4), layout="tight")
    # A curve has its color in every panel.
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    handles: dict[str, Any] = {}
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ((title, y_label), curves), axes in zip(panels.items(), all_axes, strict=True):
        for name, points in curves.items():
            (handles[name],) = axes.plot(
                *zip(*sorted(points), strict=True), "o-", ms=4, color=f"C{names.index(name)}"
            )
        _compare(axes, plot.line)
        axes.set(xlabel=plot.x_label, ylabel=y_label, title=title)
        axes.set_xscale("log" if plot.log else "linear")
        # What was measured, in plain numbers, on logarithmic axes too.
        ticks = sorted({round(x, 1) for points in curves.values() for x, _ in points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    # Below, where it hides no curve.
    figure.legend(
        handles.values(), handles, fontsize=8, ncols=len(handles), loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
    )  # fmt: skip
    return figure


def _compare(axes: Any, height: float | None) -> None:
    if height is not None:
        axes.axhline(height, color="black", linewidth=0.8, linestyle="--")
