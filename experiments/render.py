"""Results of an experiment as a Markdown page and as CSV."""

import csv
import io

from experiments.answers import answer
from experiments.experiment import Experiment
from experiments.labels import label
from experiments.records import RATE, Record


def markdown(experiment: Experiment, found: tuple[Record, ...]) -> str:
    """A page with the table, and what it cost."""
    lines = [
        f"# {experiment.title}",
        "",
        f"Scale: {experiment.scale}. {experiment.question}",
        "",
        *(_rates(found) if experiment.plot == "rates" else _rows(found)),
    ]
    if experiment.claims:
        lines += ["", *(f"- {answer(claim, found)}" for claim in experiment.claims)]
    notes = dict.fromkeys(f"{label(r.series)}: {r.note}" for r in found if r.note)
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    if experiment.scale == "reduced" and any(record.paper for record in found):
        lines += [
            "",
            "The paper's accuracies are of the rows that these stand for: other models and images.",
        ]
    hours = sum(run["train_seconds"] for record in found for run in record.runs) / 3600
    devices = sorted({run["devices"] for record in found for run in record.runs})
    lines += [
        "",
        f"{experiment.measure.capitalize()} in percent, mean ± standard deviation over seeds; "
        "a difference with its standard error. "
        f"Training took {hours:.1f} hours of {', '.join(devices) or 'no device'}.",
    ]
    lines += ["", f"![{experiment.title}]({experiment.name}_{experiment.scale}.png)"]
    return "\n".join(lines) + "\n"


def _rows(found: tuple[Record, ...]) -> list[str]:
    """A line per row of the experiment."""
    return [
        "| | model | variables | test accuracy | runs | paper: accuracy | paper: variables |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *(_line(record) for record in found),
    ]


def _rates(found: tuple[Record, ...]) -> list[str]:
    """A line per series, a column per learning rate, the best in bold."""
    rates = sorted({record.settings[RATE] for record in found})
    lines = [
        f"| learning rate | {' | '.join(f'{rate:g}' for rate in rates)} |",
        "| --- |" + " ---: |" * len(rates),
    ]
    for series in dict.fromkeys(record.series for record in found):
        tried = {r.settings[RATE]: r for r in found if r.series == series}
        best = max(tried.values(), key=lambda record: record.mean or 0)
        cells = []
        for rate in rates:
            text = accuracy(tried[rate]) if rate in tried else ""
            cells.append(f"**{text}**" if tried.get(rate) is best and best.runs else text)
        lines.append(f"| {label(series)} | {' | '.join(cells)} |")
    return lines


def _line(record: Record) -> str:
    number = record.paper
    cells = [
        label(record.series),
        record.group,
        f"{record.size:,}" if record.runs else "",
        accuracy(record),
        f"{len(record.runs)} of {len(record.seeds)}",
        f"{number.accuracy:g}" if number else "",
        f"{number.size:,}" if number and number.size else "",
    ]
    return "| " + " | ".join(cells) + " |"


def accuracy(record: Record) -> str:
    """Mean and standard deviation, or that it is missing."""
    if record.mean is None:
        return "missing"
    if record.stddev is None:
        return f"{record.mean:.2f}"
    return f"{record.mean:.2f} ± {record.stddev:.2f}"


def comma_separated(found: tuple[Record, ...]) -> str:
    """One line per run, and one for each row without any."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["row", "series", "model", "seed", "variables", "test_accuracy_percent",
         "paper_accuracy_percent", "paper_variables"]
    )  # fmt: skip
    for record in found:
        number = record.paper
        theirs = [number.accuracy, number.size] if number else [None, None]
        for run in record.runs or ({"seed": None, "num_variables": None, "test_accuracy": None},):
            ours = run["test_accuracy"]
            writer.writerow(
                [record.name, record.series, record.group, run["seed"], run["num_variables"],
                 None if ours is None else f"{100 * ours:.4f}", *theirs]
            )  # fmt: skip
    return text.getvalue()
