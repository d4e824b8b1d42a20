"""What every benchmark is: named cases, each measured into rows, and how the rows are shown."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
# Rows by case.
Results = Mapping[str, Sequence[Row]]


@dataclasses.dataclass(frozen=True)
class Piece:
    """One benchmark.

    Attributes:
        name: of the benchmark and its files.
        question: that it answers, in one sentence.
        cases: what is measured, each on its own; the form is the piece's.
        small_cases: cases of seconds, for tests.
        measure: rows of one case, from the case and the number of timed repeats.
        columns: of the table: the row's key, the heading and a format such as '.2f'.
        plot: draws the results into a file, or None.
    """

    name: str
    question: str
    cases: tuple[str, ...]
    small_cases: tuple[str, ...]
    measure: Callable[[str, int], list[Row]]
    columns: tuple[tuple[str, str, str], ...]
    plot: Callable[[Results, pathlib.Path], None] | None = None

    def table(self, results: Results) -> str:
        """A Markdown table of the rows of all cases."""
        headings = [heading for _, heading, _ in self.columns]
        marks = ["---:" if form else "---" for *_, form in self.columns]
        lines = [_line(headings), _line(marks)]
        for rows in results.values():
            for row in rows:
                lines.append(_line([_cell(row.get(key), form) for key, _, form in self.columns]))
        return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
