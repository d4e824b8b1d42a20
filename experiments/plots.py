"""Pictures of experiments: a panel per view, of lines, groups of bars or differences."""

import collections
import itertools
import math
import pathlib
from collections.abc import Iterable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.answers import difference
from experiments.experiment import Claim, Experiment
from experiments.records import RATE, Record
from experiments.tables.kinds import label

_STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.3, "legend.frameon": False, "svg.hashsalt": "smh_jax",
}  # fmt: skip
_MARKERS = "osD^vP*X<>ph"
# What lines are drawn against.
_X_LABELS = {
    "curves": "trainable variables",
    "steps": "training steps",
    "rates": "learning rate per 256 examples",
    "precisions": "bytes of the exported file",
    "frontier": "bytes of the file",
}
# Large and small ones that a number is written in.
_UNITS = ((1e6, "M"), (1e3, "k"), (1, ""))


def save(experiment: Experiment, records: tuple[Record, ...], path: pathlib.Path) -> None:
    """Draws an experiment into `path` with the endings .png and .svg."""
    views = [view for view in experiment.shown if view.kind != "errors"]
    columns = min(2, len(views))
    rows = math.ceil(len(views) / columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2 if columns == 1 else 12.0, 4.2 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flat
        for view, axes in zip(views, panels, strict=True):
            shown = tuple(record for record in records if record.row.name in view.rows)
            trained = [record for record in shown if record.runs]
            axes.set_title(view.title or experiment.title)
            axes.set_ylabel(f"{experiment.measure} (%)")
            if view.kind == "differences":
                _differences(axes, experiment.claims, records)
            elif view.kind == "bars":
                _bars(axes, trained)
                axes.legend(fontsize=8)
            else:
                _lines(axes, view.kind, trained)
                if experiment.scale == "paper" and view.kind == "curves":
                    _paper_points(axes, shown)
                if len(views) > 1:
                    axes.legend(fontsize=6)
        if len(views) == 1 and views[0].kind in _X_LABELS:
            # Next to the lines, of which there may be a dozen.
            figure.legend(fontsize=8, loc="outside right center")
        # Without dates, the same results give the same bytes.
        figure.savefig(path.with_name(path.name + ".png"), dpi=200, metadata={"Software": None})
        figure.savefig(path.with_name(path.name + ".svg"), metadata={"Date": None})


def _by_series(records: Iterable[Record]) -> dict[str, list[Record]]:
    series = collections.defaultdict(list)
    for record in records:
        series[record.row.series].append(record)
    return series


def _ticks(axes: Axes, values: set[float]) -> None:
    """Plain numbers on a logarithmic axis, no closer than a factor of 1.3."""
    ticks: list[float] = []
    for value in sorted(values):
        if not ticks or value > 1.3 * ticks[-1]:
            ticks.append(value)
    largest = max(values, default=1)
    unit, name = next((u, n) for u, n in _UNITS if u == 1 or largest >= 10 * u)
    digits = ".3g" if name else "g"
    axes.set_xticks(ticks, [f"{tick / unit:{digits}}{name}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _points(kind: str, record: Record) -> list[tuple[float, float, float]]:
    """Points of a record in a panel of lines: x, accuracy and its deviation."""
    if kind == "precisions":
        exports = record.runs[0]["exports"].values()
        return [(export["bytes"], 100 * export["accuracy"], 0.0) for export in exports]
    if kind == "frontier":
        return [(size, mean, deviation or 0.0) for _, size, mean, deviation in record.exports]
    rate = record.row.overrides.get(RATE)
    x = {"curves": record.size, "steps": record.steps, "rates": rate}[kind]
    return [(x, record.mean, record.stddev or 0.0)]


def _lines(axes: Axes, kind: str, trained: list[Record]) -> None:
    """A line per series."""
    markers = itertools.cycle(_MARKERS)
    values: set[float] = set()
    for (name, records), marker in zip(_by_series(trained).items(), markers, strict=False):
        points = sorted(point for record in records for point in _points(kind, record))
        x, accuracies, errors = zip(*points, strict=True)
        values |= set(x)
        if kind == "curves" and len(points) == 1 and name.endswith("dense"):
            # A model that is not compressed: the level to be reached.
            axes.axhline(accuracies[0], color="black", linestyle="--", linewidth=1)
        axes.errorbar(
            x, accuracies, errors if any(errors) else None, marker=marker, markersize=5,
            capsize=2.5, linewidth=1.2, color="black" if name == "dense" else None,
            label=label(name),
        )  # fmt: skip
    axes.set_xscale("log")
    _ticks(axes, values)
    axes.set_xlabel(_X_LABELS[kind])


def _differences(axes: Axes, claims: tuple[Claim, ...], records: tuple[Record, ...]) -> None:
    """A bar per claim whose rows are trained: by how much the one row is better."""
    by_claim = [(claim.text, difference(claim, records)) for claim in claims]
    bars = [(text, mean_error) for text, mean_error in by_claim if mean_error is not None]
    axes.barh(
        range(len(bars)), [mean for _, (mean, _) in bars], 0.6, color="#bbbbbb", capsize=2.5,
        xerr=[error or 0.0 for _, (_, error) in bars],
    )  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(bars)), [text for text, _ in bars], fontsize=6, wrap=True)
    axes.invert_yaxis()
    axes.set(xlabel="difference in points", ylabel="")


def _bars(axes: Axes, trained: list[Record]) -> None:
    groups = list(dict.fromkeys(record.row.group for record in trained))
    series = _by_series(trained)
    width = 0.8 / max(1, len(series))
    low, high = math.inf, -math.inf
    for index, (name, records) in enumerate(series.items()):
        at = [groups.index(record.row.group) + (index + 0.5) * width - 0.4 for record in records]
        heights = [record.mean for record in records]
        errors = [record.stddev or 0.0 for record in records]
        bars = axes.bar(at, heights, 0.92 * width, yerr=errors, capsize=2.5, label=label(name))
        axes.bar_label(bars, [f"{height:.1f}" for height in heights], padding=2, fontsize=7)
        low = min(low, *(h - error for h, error in zip(heights, errors, strict=True)))
        high = max(high, *(h + error for h, error in zip(heights, errors, strict=True)))
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(visible=False, axis="x")
    if trained:
        # The differences are small compared with the accuracies.
        margin = max(0.5, 0.3 * (high - low))
        axes.set_ylim(low - margin, min(100.0, high + margin))
        text = "axis does not begin at 0"
        axes.annotate(text, (0.01, 0.01), xycoords="axes fraction", fontsize=7)


def _paper_points(axes: Axes, records: tuple[Record, ...]) -> None:
    points = [(r.row.paper.size, r.row.paper.accuracy) for r in records if r.row.paper]
    points = [point for point in points if point[0]]
    if points:
        axes.scatter(*zip(*points, strict=True), marker="o", facecolors="none", edgecolors="gray",
            label="paper")  # fmt: skip
