"""What every benchmark is: named cases, each measured into rows, and how the rows are shown."""

import dataclasses
import functools
import importlib
import pathlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments import markdown

# Of the environment variable GLIBC_TUNABLES.
HUGE_PAGES = "glibc.malloc.hugetlb=1"

Row = dict[str, Any]
# Rows by case.
Results = Mapping[str, Sequence[Row]]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One benchmark of benchmarks.toml, which says what the other fields are.

    Attributes:
        measure: rows of one case, from the case and the number of timed repeats.
        curves, dots: arguments of the function of that name in plots.py, of one at the most.
    """

    name: str
    measure: Callable[[str, int], list[Row]]
    question: str
    cases: Sequence[str]
    small_cases: Sequence[str]
    columns: Sequence[tuple[str, str, str]]
    curves: Mapping[str, Any] | None = None
    dots: Mapping[str, Any] | None = None

    def table(self, results: Results) -> str:
        """A Markdown table of the rows of all cases."""
        keys, headings, forms = zip(*self.columns, strict=True)
        cells = [
            [
                "" if row.get(key) is None else format(row[key], form)
                for key, form in zip(keys, forms, strict=True)
            ]
            for rows in results.values()
            for row in rows
        ]
        text = [index for index, form in enumerate(forms) if not form]
        return markdown.table(headings, cells, text)


def load() -> dict[str, Benchmark]:
    """The benchmarks of benchmarks.toml by name; the module of that name measures each."""
    text = (pathlib.Path(__file__).parent / "benchmarks.toml").read_text()
    return {
        name: Benchmark(name, functools.partial(_measure, name), **fields)
        for name, fields in tomllib.loads(text).items()
    }


def _measure(name: str, case: str, repeats: int) -> list[Row]:
    # Only what is measured is loaded, not what a list of cases is made from.
    return importlib.import_module(f"benchmarks.{name}").measure(case, repeats)
