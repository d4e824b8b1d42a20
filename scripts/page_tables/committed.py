"""What is committed of experiments and benchmarks, and how a table shows it."""

import functools
import json
from typing import Any

from benchmarks import benchmark
from experiments import catalogue, records, render
from experiments.records import RESULTS, Record
from experiments.row import ROOT
from experiments.tables.small_scale import DENSE_SIZES

# What the accuracies of several tables are of.
SETTING = (
    "ResNet-8 (75,002 weights) on Fashion-MNIST at 14 x 14 pixels, three epochs, each method at "
    "its own best learning rate; test accuracy in percent, mean ± standard deviation of three "
    "seeds (scale `reduced`)."
)


@functools.cache
def reported(experiment: str) -> tuple[Record, ...]:
    """The committed records of an experiment at the reduced scale."""
    loaded = catalogue.load(experiment, "reduced")
    return records.read(loaded, records.path_of(loaded, RESULTS, ".json"))


@functools.cache
def benchmark_rows(name: str) -> tuple[dict[str, Any], ...]:
    """The rows of a committed benchmark, over those of its own cases that were measured."""
    content = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    measured = content["cases"]
    cases = [case for case in benchmark.load()[name].cases if case in measured]
    return tuple(row for case in cases for row in measured[case]["rows"])


def of(experiment: str, series: str, size: int | None) -> Record | None:
    """The record of a series whose target is so many variables; None if there is none."""
    for record in reported(experiment):
        # Methods stay a little below their target.
        near = size is None or (record.runs and 0.94 * size < record.size <= size)
        if record.row.series == series and near and record.row.group == "ResNet-8":
            return record
    return None


def num_weights(record: Record) -> int:
    """Of the base model, which is named in the row's group ('ResNet-8')."""
    return DENSE_SIZES[int(record.row.group.partition("-")[2])]


def accuracy(record: Record | None) -> str:
    return "" if record is None else render.accuracy(record)
