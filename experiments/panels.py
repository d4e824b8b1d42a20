"""What the pictures of an experiment show: a panel per view, from its records."""

import collections
import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from experiments.answers import difference, paired_differences
from experiments.experiment import Claim, Experiment, View
from experiments.records import RATE, Record
from experiments.tables.kinds import label
from smh_jax.training.pictures.colors import NEUTRAL, color_of, looks
from smh_jax.training.pictures.names import data_name, model_name
from smh_jax.training.pictures.panels import (
    Level,
    Panel,
    Point,
    Series,
    by_factors,
    log_ticks,
    near_values,
    plain,
)

_X_LABELS = {
    "curves": "trainable variables",
    "rates": "learning rate per 256 examples",
    "precisions": "bytes of the exported file",
    "frontier": "bytes of the file",
}
Records = Sequence[Record]


def panel(experiment: Experiment, view: View, records: Records) -> Panel | None:
    """The panel of a view; None for a view that is a table alone, and for one without runs."""
    if view.kind == "errors":
        return None
    shown = [record for record in records if record.row.name in view.rows]
    trained = [record for record in shown if record.runs]
    title = view.title or experiment.title
    if view.kind == "differences":
        return _differences(title, experiment.claims, records)
    if not trained:
        return None
    paper = experiment.scale == "paper"
    draw = {"dots": _dots, "steps": _steps, "curves": _curves}.get(view.kind, _lines)
    return draw(view, title, experiment.measure, trained, shown if paper else ())


def _by_series(records: Iterable[Record]) -> dict[str, list[Record]]:
    series = collections.defaultdict(list)
    for record in records:
        series[label(record.row.series)].append(record)
    return series


def _point(record: Record, x: float) -> Point:
    text = f"{label(record.row.series)}, {record.row.group}, {record.size:,} variables"
    return Point(x, record.mean, record.stddev, f"{text}, {_count(len(record.runs), 'seed')}")


def _joined(records: Records, x_of: Callable[[Record], float], line: str = "solid"):
    """A series per series of rows, points by size."""
    groups = _by_series(records)
    return tuple(
        Series(
            name,
            tuple(sorted((_point(record, x_of(record)) for record in group), key=lambda p: p.x)),
            *(color, marker, line),
        )
        for (name, group), (color, marker) in zip(groups.items(), looks(list(groups)), strict=True)
    )


def _curves(view: View, title: str, measure: str, trained: Records, of_paper: Records) -> Panel:
    """Accuracy against size, dense models as levels; at the paper's scale its numbers, too."""
    levels = [record for record in trained if _is_dense(record)]
    others = [record for record in trained if not _is_dense(record)]
    sizes = [record.size for record in others]
    ticks = log_ticks(sizes)
    x_label = _X_LABELS["curves"]
    if len(levels) == 1 and {r.row.group for r in trained} == {levels[0].row.group}:
        # Shares of the one dense model.
        total = levels[0].size
        x_label += f", of {levels[0].row.group}'s {total:,}"
        ticks = tuple((tick, f"{100 * tick / total:.2g}%\n{plain(tick)}") for tick, _ in ticks)
    targets = near_values(sizes)
    at_targets = len(targets) == len(ticks)
    if at_targets:
        # Methods stay a little below their target, each by another number of variables.
        series = _joined(others, lambda r: next(size for size in targets if r.size <= size))
    else:
        series = _joined(others, lambda record: record.size)
    dense = looks([label(record.row.series) for record in levels])
    return Panel(
        title,
        caption(trained),
        x_label,
        f"{measure} (%)",
        (*series, *_numbers_of_the_paper(of_paper, series)),
        tuple(
            Level(record.mean, f"{label(record.row.series)}, {plain(record.size)}", color,
                  record.stddev)
            for record, (color, _) in zip(levels, dense, strict=True)
        ),
        log_x=True,
        ticks=ticks,
        dodge=at_targets,
    )  # fmt: skip


def _is_dense(record: Record) -> bool:
    return record.row.series.endswith("dense")


def _numbers_of_the_paper(records: Records, drawn: Sequence[Series]) -> tuple[Series, ...]:
    """The paper's numbers as hollow markers in the colors of ours."""
    colors = {series.name: series for series in drawn}
    shown = []
    for name, group in _by_series(r for r in records if r.row.paper and r.row.paper.size).items():
        numbers = [record.row.paper for record in group]
        points = tuple(Point(n.size, n.accuracy, text=f"paper: {name}") for n in numbers)
        color, marker = looks([name])[0]
        if name in colors:
            color, marker = colors[name].color, colors[name].marker
        shown.append(Series(f"{name} (paper)", points, color, marker, line="", filled=False))
    return tuple(shown)


def _lines(view: View, title: str, measure: str, trained: Records, _: Records) -> Panel:
    """Accuracy against learning rates, or against bytes of exported files."""
    if view.kind == "rates":
        series = _joined(trained, lambda record: record.row.overrides[RATE])
    else:
        series = _files(trained)
        if view.kind == "frontier":
            series = (*series, _frontier(series))
    xs = {point.x for one in series for point in one.points}
    x_label = _X_LABELS[view.kind]
    if view.kind == "precisions":
        names = [name for name, *_ in sorted(trained[0].exports, key=lambda export: export[1])]
        x_label += f" ({', '.join(names)}, from left to right)"
    return Panel(
        title,
        caption(trained),
        *(x_label, f"{measure} (%)", series),
        log_x=True,
        ticks=log_ticks(xs, at_values=view.kind == "rates"),
    )


def _files(trained: Records) -> tuple[Series, ...]:
    """Exported files; those of several rows, which were trained for it, are joined by lines."""
    groups = _by_series(trained)
    series = []
    for (name, group), look in zip(groups.items(), looks(list(groups)), strict=True):
        points = [
            Point(size, mean, deviation, f"{name}, {precision}")
            for record in group
            for precision, size, mean, deviation in record.exports
        ]
        line = "solid" if len(group) > 1 else ""
        series.append(Series(name, tuple(sorted(points, key=lambda p: p.x)), *look, line))
    return tuple(series)


def _frontier(series: Iterable[Series]) -> Series:
    """The best accuracy of any file that is not larger."""
    best, steps = -math.inf, []
    for point in sorted((p for one in series for p in one.points), key=lambda p: (p.x, -p.y)):
        if point.y > best:
            steps += [Point(point.x, best)] if steps else []
            best = point.y
            steps.append(Point(point.x, best, text="best so far"))
    return Series("best of all files as small", tuple(steps), NEUTRAL, "", "dashed")


def _steps(view: View, title: str, measure: str, trained: Records, _: Records) -> Panel:
    """A row per record, with its steps of training."""
    names = tuple(f"{label(r.row.series)}, {r.steps:,} steps" for r in trained)
    points: dict[str, list[Point]] = {}
    for index, record in enumerate(trained):
        points.setdefault(color_of(label(record.row.series)), []).append(_point(record, index))
    series = tuple(Series("", tuple(each), color, line="") for color, each in points.items())
    return Panel(title, caption(trained), "", f"{measure} (%)", series, categories=names)


def _dots(view: View, title: str, measure: str, trained: Records, of_paper: Records) -> Panel:
    """Groups along an axis of numbers, if that is what all of them are, else in a list."""
    y_label = f"{measure} (%)"
    groups = list(dict.fromkeys(record.row.group for record in trained))
    if len(groups) > 1 and all(map(_is_number, groups)):
        series = _joined(trained, lambda record: float(record.row.group))
        values = sorted(map(float, groups))
        log = by_factors(values)
        ticks = log_ticks(values) if log else tuple((value, f"{value:g}") for value in values)
        return Panel(
            title, caption(trained), view.axis, y_label, series, log_x=log, ticks=ticks, dodge=True
        )
    places = list(dict.fromkeys(_place(record, trained) for record in trained))
    series = _joined(trained, lambda record: places.index(_place(record, trained)), line="")
    numbers = {
        place: record.row.paper.accuracy
        for record in of_paper
        if record.row.paper and (place := _place(record, trained)) in places
    }
    if numbers:
        points = tuple(Point(places.index(p), number) for p, number in numbers.items())
        series = (*series, Series("paper", points, NEUTRAL, "D", "", filled=False))
    return Panel(
        title, caption(trained), view.axis, y_label, series, categories=tuple(places), dodge=True
    )


def _place(record: Record, records: Records) -> str:
    """A record's group, with its size where the series has several in the group."""
    same = [r for r in records if (r.row.group, r.row.series) == _key(record)]
    return record.row.group + (f", {plain(record.size)} variables" if len(same) > 1 else "")


def _key(record: Record) -> tuple[str, str]:
    return record.row.group, record.row.series


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _differences(title: str, claims: tuple[Claim, ...], records: Records) -> Panel | None:
    """A row per claim whose rows are trained: by how much the one row is better."""
    records = tuple(records)
    found = [(claim, mean) for claim in claims if (mean := difference(claim, records))]
    if not found:
        return None
    seeds = tuple(
        Point(index, each, text="one seed")
        for index, (claim, _) in enumerate(found)
        if claim.paired
        for each in paired_differences(claim, records)
    )
    means = tuple(Point(index, *mean_error) for index, (_, mean_error) in enumerate(found))
    named = {name for claim, _ in found for name in (claim.row, claim.than)}
    compared = [record for record in records if record.row.name in named]
    return Panel(
        title,
        f"{_setting(compared)}. Bars: ± 1 standard error of the mean difference over "
        f"{_seeds(compared)}; less than twice that counts as noise.",
        "",
        "difference in points",
        tuple(
            Series(*one)
            for one in (
                ("each seed", seeds, NEUTRAL, "o", "", False),
                ("mean", means, color_of("smh"), "o", ""),
            )
            if one[1]
        ),
        (Level(0.0),),
        categories=tuple(claim.text for claim, _ in found),
    )


def caption(trained: Records) -> str:
    """Model, data, epochs and seeds, and what the error bars are."""
    seeds = _seeds(trained)
    deviations = any(record.stddev for record in trained)
    if deviations:
        return f"{_setting(trained)}. Mean of {seeds}; bars: ± 1 standard deviation over seeds."
    examples = {run["test_examples"] for r in trained for run in r.runs if "test_examples" in run}
    note = ""
    if len(examples) == 1:
        (number,) = examples
        share = statistics.fmean(r.mean for r in trained) / 100
        error = 100 * math.sqrt(share * (1 - share) / number)
        note = f", {number:,} images: one standard error of an accuracy is {error:.1f} points"
    return f"{_setting(trained)}. {seeds.capitalize()}, no error bars{note}."


def _seeds(records: Records) -> str:
    counts = sorted({len(record.runs) for record in records})
    many = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return _count(many, "seed")


def _count(number: int | str, noun: str) -> str:
    return f"{number} {noun}" + ("" if str(number) == "1" else "s")


def _setting(records: Records) -> str:
    """'ResNet-8 on Fashion-MNIST at 14 x 14 pixels, 3 epochs'."""
    configs = [record.row.read_config(0) for record in records]
    models = _listed(model_name(config.model.name) for config in configs)
    images = _listed(data_name(config.data) for config in configs)
    epochs = sorted({config.epochs for config in configs})
    length = f"{epochs[0]:g}" + (f" to {epochs[-1]:g}" if len(epochs) > 1 else "")
    return f"{models} on {images}, {_count(length, 'epoch')}"


def _listed(names: Iterable[str]) -> str:
    """'a, b and c', each once."""
    *most, last = dict.fromkeys(names)
    return f"{', '.join(most)} and {last}" if most else last
