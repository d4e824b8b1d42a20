"""The numbers that the paper reports, with where each was read: `paper_results.csv`."""

import csv
import dataclasses
import functools
import pathlib


@dataclasses.dataclass(frozen=True)
class Number:
    """What the paper reports of one trained model.

    Attributes:
        accuracy: top-1, in percent.
        size: trainable variables, as printed or read out of a figure; None for a full model.
        speed: training examples per second on a TPU v3 slice of topology 4x4.
        source: 'table', or how it was read out of a figure.
    """

    accuracy: float
    size: int | None
    speed: float | None
    source: str


@functools.cache
def _numbers() -> dict[tuple[str, str, str, int | None], Number]:
    numbers = {}
    text = pathlib.Path(__file__).with_name("paper_results.csv").read_text()
    for line in csv.DictReader(text.splitlines()):
        size = int(line["target_variables"] or 0) or None
        speed = float(line["samples_per_second"] or 0) or None
        number = Number(float(line["top1_percent"]), size, speed, line["source"])
        numbers[line["experiment"], line["base_model"], line["method"], size] = number
    return numbers


def find(experiment: str, base_model: str, method: str, size: int | None = None) -> Number:
    """The paper's number of one point.

    Raises:
        KeyError: if the paper has none; the message lists those of the experiment.
    """
    key = (experiment, base_model, method, size)
    if key not in _numbers():
        known = [other[1:] for other in _numbers() if other[0] == experiment]
        raise KeyError(f"the paper has no {key}; of {experiment} it has {known}")
    return _numbers()[key]


def sizes(experiment: str, base_model: str, method: str) -> tuple[int, ...]:
    """All sizes at which an experiment reports a method on a base model, in the paper's order."""
    asked = (experiment, base_model, method)
    return tuple(size for *names, size in _numbers() if tuple(names) == asked and size)
