"""Results of an experiment as a report: Markdown, or one HTML page."""

import statistics
from collections.abc import Callable

from experiments import markdown
from experiments.answers import answer
from experiments.experiment import Experiment, View
from experiments.panels import panel
from experiments.records import RATE, Record
from experiments.tables.kinds import label
from experiments.tables.small_scale import SMALL_SCALES
from smh_jax.training.pictures.report import Section, Table

Records = tuple[Record, ...]


def page(experiment: Experiment, records: Records) -> str:
    """A Markdown page with the tables, the answers and what they cost."""
    blocks = [f"# {experiment.title}"]
    for section in sections(experiment, records):
        table = section.table
        blocks += filter(
            None,
            (
                f"## {section.title}" if section.title else "",
                section.text,
                markdown.table(table.headings, table.rows, table.text) if table else "",
                "\n".join(f"- {item}" for item in section.items),
            ),
        )
    blocks.append(f"![{experiment.title}]({experiment.name}_{experiment.scale}.png)")
    return "\n\n".join(blocks) + "\n"


def html(experiment: Experiment, records: Records) -> str:
    """The same as one HTML page, with interactive pictures, settings and commands."""
    from smh_jax.training.pictures import page as pages

    return pages.encode(experiment.title, [*sections(experiment, records), _settings(records)])


def sections(experiment: Experiment, records: Records) -> list[Section]:
    """The question, a section per view, and what all of it cost."""
    answers = tuple(answer(claim, records) for claim in experiment.claims)
    views = experiment.shown
    # Alongside the picture of the differences, else behind everything.
    answered = next((view for view in views if view.kind == "differences"), views[-1])
    parts = [Section(text=f"Scale: {experiment.scale}. {experiment.question}")]
    for view in views:
        shown = tuple(record for record in records if record.row.name in view.rows)
        drawn = panel(experiment, view, records)
        parts.append(
            Section(
                view.title,
                view.text,
                _TABLES[view.kind](view, shown) if view.kind in _TABLES else None,
                answers if view is answered else (),
                (drawn,) if drawn else (),
            )
        )
    rows = [record.row for record in records]
    notes = dict.fromkeys(f"{label(row.series)}: {row.note}" for row in rows if row.note)
    parts.append(Section(items=tuple(notes)))
    if experiment.scale in SMALL_SCALES and any(row.paper for row in rows):
        parts.append(
            Section(
                text="The paper's accuracies are of the rows that these stand for: other models "
                "and images."
            )
        )
    runs = [run for record in records for run in record.runs]
    hours = sum(run["train_seconds"] for run in runs) / 3600
    devices = sorted({run["devices"] for run in runs if "devices" in run})
    parts.append(
        Section(
            text=f"{experiment.measure.capitalize()} in percent, mean ± standard deviation over "
            "seeds; a difference with its standard error. "
            f"Training took {hours:.1f} hours of {', '.join(devices) or 'an unnamed device'}."
        )
    )
    return parts


def _settings(records: Records) -> Section:
    """What every run was, took and is repeated by."""
    lines = [
        [
            record.row.name,
            str(run["seed"]),
            f"{100 * run['test_accuracy']:.2f}",
            f"{run['steps']:,}",
            f"{run['train_seconds'] / 60:.1f}",
            f"`{run['command']}`" if "command" in run else "",
        ]
        for record in records
        for run in record.runs
    ]
    headings = ["row", "seed", "accuracy", "steps", "minutes", "command"]
    return Section("Runs: settings, seeds and cost", table=Table(headings, lines, text=(0, 5)))


def _rows(view: View, records: Records) -> Table:
    """A line per row; columns that have nothing to say are left out."""
    columns: dict[str, Callable[[Record], str]] = {
        "": lambda r: label(r.row.series),
        view.axis or "model": lambda r: r.row.group,
        "variables": lambda r: f"{r.size:,}" if r.runs else "",
    }
    if len({record.steps for record in records if record.runs}) > 1:
        columns["steps"] = lambda r: f"{r.steps:,}" if r.runs else ""
    columns["test accuracy"] = accuracy
    if any(record.bits_per_character for record in records):
        columns["bits per character"] = _bits
    columns["runs"] = lambda r: f"{len(r.runs)} of {len(r.row.seeds)}"
    if any(record.row.paper for record in records):
        columns["paper: accuracy"] = lambda r: f"{r.row.paper.accuracy:g}" if r.row.paper else ""
        columns["paper: variables"] = lambda r: (
            f"{r.row.paper.size:,}" if r.row.paper and r.row.paper.size else ""
        )
    if not any(label(record.row.series) for record in records):
        del columns[""]
    cells = [[text(record) for text in columns.values()] for record in records]
    words = [i for i, name in enumerate(columns) if name in ("", view.axis or "model")]
    return Table(list(columns), cells, text=words)


def _rates(_: View, records: Records) -> Table:
    """A line per series, a column per learning rate, the best in bold."""
    rates = sorted({record.row.overrides[RATE] for record in records})
    lines = []
    for series in dict.fromkeys(record.row.series for record in records):
        tried = {r.row.overrides[RATE]: r for r in records if r.row.series == series}
        best = max(tried.values(), key=lambda record: record.mean or 0)
        cells = {rate: accuracy(record) for rate, record in tried.items()}
        if best.runs:
            cells[best.row.overrides[RATE]] = f"**{accuracy(best)}**"
        lines.append([label(series), *(cells.get(rate, "") for rate in rates)])
    return Table(["learning rate", *(f"{rate:g}" for rate in rates)], lines)


def _precisions(_: View, records: Records) -> Table:
    """A line per row, a column per precision: accuracy and bytes of the first run's export."""
    trained = [record for record in records if record.runs]
    precisions = list(dict.fromkeys(name for r in trained for name in r.runs[0]["exports"]))
    lines = []
    for record in trained:
        run = record.runs[0]
        exports = run["exports"].values()
        cells = [f"{100 * export['accuracy']:.2f} ({export['bytes']:,} B)" for export in exports]
        lines.append([label(record.row.series), f"{100 * run['test_accuracy']:.2f}", *cells])
    return Table(["", "the run's own", *precisions], lines)


def _frontier(_: View, records: Records) -> Table:
    """A line per exported file, the smallest first: mean bytes, mean accuracy over the runs."""
    files = [
        (bytes_, label(record.row.series), precision, accuracy, deviation, len(record.runs))
        for record in records
        for precision, bytes_, accuracy, deviation in record.exports
    ]
    lines = [
        [series, precision, f"{bytes_:,.0f}", _with_deviation(accuracy, deviation), str(runs)]
        for bytes_, series, precision, accuracy, deviation, runs in sorted(
            files, key=lambda f: f[:3]
        )
    ]
    return Table(["", "precision", "bytes", "test accuracy", "seeds"], lines, text=(0, 1))


def _errors(_: View, records: Records) -> Table:
    """A line per generated tensor: its relative error after the conversion, run by run.

    The last line is the accuracy before any fine-tuning.
    """
    runs = [run for record in records for run in record.runs]
    numbers = {
        name: [run["relative_errors"][name] for run in runs]
        for name in (runs[0]["relative_errors"] if runs else ())
    }
    numbers["test accuracy"] = [100 * run["test_accuracy"] for run in runs]
    lines = [[name, ", ".join(f"{n:.2f}" for n in by_run)] for name, by_run in numbers.items()]
    return Table(["tensor", "relative error"], lines, text=(0, 1))


_TABLES = dict.fromkeys(("curves", "dots", "steps"), _rows)
_TABLES |= {"rates": _rates, "precisions": _precisions, "errors": _errors, "frontier": _frontier}


def accuracy(record: Record) -> str:
    """Mean and standard deviation, or that it is missing."""
    if record.mean is None:
        return "missing"
    return _with_deviation(record.mean, record.stddev)


def _bits(record: Record) -> str:
    bits = record.bits_per_character
    if not bits:
        return ""
    return _with_deviation(statistics.fmean(bits), statistics.stdev(bits) if bits[1:] else None)


def _with_deviation(mean: float, stddev: float | None) -> str:
    return f"{mean:.2f}" + ("" if stddev is None else f" ± {stddev:.2f}")
