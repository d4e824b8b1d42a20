"""Results of an experiment as a Markdown page."""

from collections.abc import Callable

from experiments import markdown
from experiments.answers import answer
from experiments.experiment import Experiment
from experiments.records import RATE, Record
from experiments.tables.kinds import label
from experiments.tables.small_scale import SMALL_SCALES

Records = tuple[Record, ...]


def page(experiment: Experiment, records: Records) -> str:
    """A page with the tables, the answers and what they cost."""
    blocks = [f"# {experiment.title}", f"Scale: {experiment.scale}. {experiment.question}"]
    for view in experiment.shown:
        shown = tuple(record for record in records if record.row.name in view.rows)
        table = _TABLES.get(view.kind, lambda _: "")(shown)
        heading = f"## {view.title}" if view.title else ""
        blocks += filter(None, (heading, view.text, table))
        if view.kind == "differences" or not experiment.views:
            blocks += _lines(answer(claim, records) for claim in experiment.claims)
    rows = [record.row for record in records]
    blocks += _lines(dict.fromkeys(f"{label(row.series)}: {row.note}" for row in rows if row.note))
    if experiment.scale in SMALL_SCALES and any(row.paper for row in rows):
        blocks.append(
            "The paper's accuracies are of the rows that these stand for: other models and images."
        )
    runs = [run for record in records for run in record.runs]
    hours = sum(run["train_seconds"] for run in runs) / 3600
    devices = sorted({run["devices"] for run in runs if "devices" in run})
    blocks.append(
        f"{experiment.measure.capitalize()} in percent, mean ± standard deviation over seeds; "
        "a difference with its standard error. "
        f"Training took {hours:.1f} hours of {', '.join(devices) or 'an unnamed device'}."
    )
    blocks.append(f"![{experiment.title}]({experiment.name}_{experiment.scale}.png)")
    return "\n\n".join(blocks) + "\n"


def _lines(texts) -> list[str]:
    """A Markdown list as a block, or no block."""
    listed = "\n".join(f"- {text}" for text in texts)
    return [listed] if listed else []


def _rows(records: Records) -> str:
    """A line per row; columns that have nothing to say are left out."""
    columns: dict[str, Callable[[Record], str]] = {
        "": lambda r: label(r.row.series),
        "model": lambda r: r.row.group,
        "variables": lambda r: f"{r.size:,}" if r.runs else "",
    }
    if len({record.steps for record in records if record.runs}) > 1:
        columns["steps"] = lambda r: f"{r.steps:,}" if r.runs else ""
    columns["test accuracy"] = accuracy
    columns["runs"] = lambda r: f"{len(r.runs)} of {len(r.row.seeds)}"
    if any(record.row.paper for record in records):
        columns["paper: accuracy"] = lambda r: f"{r.row.paper.accuracy:g}" if r.row.paper else ""
        columns["paper: variables"] = lambda r: (
            f"{r.row.paper.size:,}" if r.row.paper and r.row.paper.size else ""
        )
    cells = ([text(record) for text in columns.values()] for record in records)
    return markdown.table(list(columns), cells, text=(0, 1))


def _rates(records: Records) -> str:
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
    return markdown.table(["learning rate", *(f"{rate:g}" for rate in rates)], lines)


def _precisions(records: Records) -> str:
    """A line per row, a column per precision: accuracy and bytes of the first run's export."""
    trained = [record for record in records if record.runs]
    precisions = list(dict.fromkeys(name for r in trained for name in r.runs[0]["exports"]))
    lines = []
    for record in trained:
        run = record.runs[0]
        exports = run["exports"].values()
        cells = [f"{100 * export['accuracy']:.2f} ({export['bytes']:,} B)" for export in exports]
        lines.append([label(record.row.series), f"{100 * run['test_accuracy']:.2f}", *cells])
    return markdown.table(["", "the run's own", *precisions], lines)


def _frontier(records: Records) -> str:
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
    return markdown.table(["", "precision", "bytes", "test accuracy", "seeds"], lines, text=(0, 1))


def _errors(records: Records) -> str:
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
    return markdown.table(["tensor", "relative error"], lines, text=(0, 1))


_TABLES = dict.fromkeys(("curves", "bars", "steps"), _rows)
_TABLES |= {"rates": _rates, "precisions": _precisions, "errors": _errors, "frontier": _frontier}


def accuracy(record: Record) -> str:
    """Mean and standard deviation, or that it is missing."""
    if record.mean is None:
        return "missing"
    return _with_deviation(record.mean, record.stddev)


def _with_deviation(mean: float, stddev: float | None) -> str:
    return f"{mean:.2f}" + ("" if stddev is None else f" ± {stddev:.2f}")
