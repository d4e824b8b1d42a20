"""What every benchmark is: named cases, each measured into rows, and how the rows are shown."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments import markdown

Row = dict[str, Any]
# Rows by case.
Results = Mapping[str, Sequence[Row]]


@dataclasses.dataclass(frozen=True)
class Curves:
    """A picture with a panel per model and measure, and a curve per method.

    Attributes:
        x: the rows' key that is drawn along the axis.
        x_label: of the axis.
        measures: title of a panel, the rows' key and the label of its axis; the title is formatted
            with the row.
        without: method that has no curve, such as the reference.
        line: height of a line to compare with, or None.
        log: whether x is logarithmic.
    """

    x: str
    x_label: str
    measures: tuple[tuple[str, str, str], ...]
    without: str = ""
    line: float | None = None
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Bars:
    """A picture with a group of bars per case and a bar per method.

    Attributes:
        value: the rows' key that is drawn.
        title, label: of the picture and of its axis.
        line: height of a line to compare with, or None.
    """

    value: str
    title: str
    label: str
    line: float | None = None


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: of the benchmark and its files.
        question: that it answers, in one sentence.
        cases: what is measured, each on its own; the form is the benchmark's.
        small_cases: cases of seconds, for tests.
        measure: rows of one case, from the case and the number of timed repeats.
        columns: of the table: the row's key, the heading and a format such as '.2f'.
        plot: the picture of the results, or None.
    """

    name: str
    question: str
    cases: tuple[str, ...]
    small_cases: tuple[str, ...]
    measure: Callable[[str, int], list[Row]]
    columns: tuple[tuple[str, str, str], ...]
    plot: Curves | Bars | None = None

    def table(self, results: Results) -> str:
        """A Markdown table of the rows of all cases."""
        cells = (
            [_cell(row.get(key), form) for key, _, form in self.columns]
            for rows in results.values()
            for row in rows
        )
        text = [index for index, (*_, form) in enumerate(self.columns) if not form]
        return markdown.table([heading for _, heading, _ in self.columns], cells, text)


def _cell(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
