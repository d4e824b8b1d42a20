"""Pictures of experiments: accuracy against size as lines, groups of bars, accuracy by rate."""

import collections
import itertools
import pathlib

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.experiment import Experiment
from experiments.labels import label
from experiments.records import RATE, Record

_STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.3, "legend.frameon": False, "svg.hashsalt": "smh_jax",
}  # fmt: skip
_MARKERS = "osD^vP*X<>ph"


def save(experiment: Experiment, found: tuple[Record, ...], path: pathlib.Path) -> None:
    """Draws an experiment into `path` with the endings .png and .svg."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        trained = [record for record in found if record.runs]
        {"curves": _curves, "bars": _bars, "rates": _rates}[experiment.plot](axes, trained)
        if experiment.scale == "paper":
            _paper_points(axes, found, experiment.plot)
        axes.set_ylabel(f"{experiment.measure} (%)")
        axes.set_title(experiment.title)
        if experiment.plot == "bars":
            axes.legend(fontsize=8)
        else:
            # Beside the lines, of which there may be a dozen.
            figure.legend(fontsize=8, loc="outside right center")
        # Without dates, the same results give the same bytes.
        figure.savefig(path.with_name(path.name + ".png"), dpi=200, metadata={"Software": None})
        figure.savefig(path.with_name(path.name + ".svg"), metadata={"Date": None})


def _by_series(found: list[Record]) -> dict[str, list[Record]]:
    series = collections.defaultdict(list)
    for record in found:
        series[record.series].append(record)
    return series


def _error(record: Record) -> float:
    return record.stddev or 0.0


def _color(series: str) -> str | None:
    """Black for what is not compressed; the next of the cycle for all others."""
    return "black" if series == "dense" else None


# Large and small ones that a number is written in.
_UNITS = ((1e6, "M"), (1e3, "k"), (1, ""))


def _ticks(axes: Axes, values: set[float]) -> None:
    """Plain numbers on a logarithmic axis, no closer than a factor of 1.3."""
    ticks: list[float] = []
    for value in sorted(values):
        if not ticks or value > 1.3 * ticks[-1]:
            ticks.append(value)
    largest = max(values, default=1)
    unit, name = next((u, n) for u, n in _UNITS if u == 1 or largest >= 10 * u)
    axes.set_xticks(ticks, [f"{tick / unit:.3g}{name}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _curves(axes: Axes, found: list[Record]) -> None:
    for (name, points), marker in zip(
        _by_series(found).items(), itertools.cycle(_MARKERS), strict=False
    ):
        points = sorted(points, key=lambda record: record.size)
        if len(points) == 1 and name.endswith("dense"):
            # A model that is not compressed: the level to be reached.
            axes.axhline(points[0].mean, color="black", linestyle="--", linewidth=1)
        axes.errorbar(
            [record.size for record in points],
            [record.mean for record in points],
            [_error(record) for record in points],
            marker=marker,
            markersize=5,
            capsize=2.5,
            linewidth=1.2,
            color=_color(name),
            label=label(name),
        )
    axes.set_xscale("log")
    _ticks(axes, {record.size for record in found})
    axes.set_xlabel("trainable variables")


def _bars(axes: Axes, found: list[Record]) -> None:
    groups = list(dict.fromkeys(record.group for record in found))
    series = _by_series(found)
    width = 0.8 / max(1, len(series))
    for index, (name, points) in enumerate(series.items()):
        at = [groups.index(record.group) + (index + 0.5) * width - 0.4 for record in points]
        heights = [record.mean for record in points]
        bars = axes.bar(
            at, heights, 0.92 * width, yerr=[_error(r) for r in points], capsize=2.5,
            label=label(name),
        )  # fmt: skip
        axes.bar_label(bars, [f"{height:.1f}" for height in heights], padding=2, fontsize=7)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(visible=False, axis="x")
    if found:
        # The differences are small beside the accuracies.
        low = min(record.mean - _error(record) for record in found)
        high = max(record.mean + _error(record) for record in found)
        margin = max(0.5, 0.3 * (high - low))
        axes.set_ylim(low - margin, min(100.0, high + margin))
        axes.annotate(
            "axis does not begin at 0", (0.01, 0.01), xycoords="axes fraction", fontsize=7
        )


def _rates(axes: Axes, found: list[Record]) -> None:
    for (name, points), marker in zip(
        _by_series(found).items(), itertools.cycle(_MARKERS), strict=False
    ):
        points = sorted(points, key=lambda record: record.settings[RATE])
        axes.plot(
            [record.settings[RATE] for record in points],
            [record.mean for record in points],
            marker=marker,
            color=_color(name),
            label=label(name),
        )
    axes.set_xscale("log")
    _ticks(axes, {record.settings[RATE] for record in found})
    axes.set_xlabel("learning rate per 256 examples")


def _paper_points(axes: Axes, found: tuple[Record, ...], plot: str) -> None:
    points = [r.paper for r in found if r.paper and r.paper.size]
    if plot == "curves" and points:
        axes.scatter(
            [number.size for number in points],
            [number.accuracy for number in points],
            marker="o",
            facecolors="none",
            edgecolors="gray",
            label="paper",
        )
