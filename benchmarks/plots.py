"""Pictures of benchmark results."""

import pathlib
from collections.abc import Sequence

from benchmarks.benchmark import Benchmark, Results, Row
from smh_jax.training.pictures import drawing
from smh_jax.training.pictures.colors import looks
from smh_jax.training.pictures.names import model_name
from smh_jax.training.pictures.panels import Level, Panel, Point, Series, plain


def save(benchmark: Benchmark, results: Results, path: pathlib.Path, caption: str) -> None:
    """Draws results into `path` with the endings .png and .svg; the caption says of what."""
    if benchmark.dots:
        panels = [dots(results, caption, **benchmark.dots)]
    else:
        panels = curves(results, caption, **benchmark.curves)
    figure = drawing.draw(panels, benchmark.question)
    for kind in ("png", "svg"):
        path.with_suffix(f".{kind}").write_bytes(drawing.encode(figure, kind))


def _names(results: Results) -> list[str]:
    """Methods in order, each of one look in all panels."""
    return list(dict.fromkeys(row["method"] for rows in results.values() for row in rows))


def _spelled(row: Row) -> Row:
    """The row with its model and target size as people write them."""
    size = {"target_size": plain(row["target_size"])} if "target_size" in row else {}
    return row | {"model": model_name(row["model"])} | size


def _label(name: str) -> str:
    return name.replace("smh", "SMH", 1)


def dots(
    results: Results, caption: str, value: str, title: str, label: str, line: str, category: str
) -> Panel:
    """A row per case and a dot per method; the method `line` is what the others are multiples of.

    Args:
        results: what is drawn.
        caption: of what, on which machine.
        value: the rows' key.
        title, label: of the panel and its axis.
        line: name of the method that is drawn as a line.
        category: name of a case, formatted with its first row.
    """
    names = [name for name in _names(results) if name != line]
    series = []
    for name, look in zip(names, looks([_label(name) for name in names]), strict=True):
        points = tuple(
            Point(place, row[value], text=f"{_label(name)}, {case}")
            for place, (case, rows) in enumerate(results.items())
            for row in rows
            if row["method"] == name and row.get(value) is not None
        )
        series.append(Series(_label(name), points, *look, line=""))
    places = tuple(category.format(**_spelled(rows[0])) for rows in results.values())
    return Panel(
        title, caption, "", label, tuple(series), (Level(1.0, line),), categories=places,
        dodge=True, from_zero=True,
    )  # fmt: skip


def curves(
    results: Results,
    caption: str,
    x: str,
    x_label: str,
    measures: Sequence[tuple[str, str, str]],
    without: str = "",
    line: float | None = None,
    log: bool = False,
) -> list[Panel]:
    """A panel per model and measure, and a curve per method.

    Args:
        results: what is drawn.
        caption: of what, on which machine.
        x: the rows' key that is drawn along the axis, on a logarithmic one with `log`.
        measures: a panel's title, formatted with the row, the rows' key and the axis' label.
        without: method that has no curve, such as the reference.
        line: height of a line to compare with, or None.
    """
    values: dict[tuple[str, str], dict[str, list[Point]]] = {}
    for row in (row for rows in results.values() for row in rows):
        for title, key, y_label in measures:
            if row["method"] != without:
                panel = values.setdefault((title.format(**_spelled(row)), y_label), {})
                panel.setdefault(row["method"], []).append(Point(row[x], row[key]))
    names = [name for name in _names(results) if name != without]
    look_of = dict(zip(names, looks([_label(name) for name in names]), strict=True))
    panels = []
    for (title, y_label), panel in values.items():
        series = tuple(
            Series(_label(name), tuple(sorted(points, key=lambda p: p.x)), *look_of[name])
            for name, points in panel.items()
        )
        heights = [line or 0.0, *(point.y for points in panel.values() for point in points)]
        # What was measured, in plain numbers, on logarithmic axes too.
        ticks = sorted({round(point.x, 1) for points in panel.values() for point in points})
        panels.append(
            Panel(
                title, caption, x_label, y_label, series,
                () if line is None else (Level(line, without),), log_x=log, dodge=log,
                ticks=tuple((tick, f"{tick:g}") for tick in ticks),
                # Ratios near 1 would not be told apart.
                from_zero=line is None or min(heights) < max(heights) / 2,
            )
        )  # fmt: skip
    return panels
