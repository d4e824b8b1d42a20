"""An experiment: a table or figure of the paper, or an ablation, as rows and a way to show them."""

import collections
import dataclasses
import graphlib

from experiments.row import Row


@dataclasses.dataclass(frozen=True)
class Claim:
    """That a row is more accurate than another, which their runs decide (`experiments.answers`).

    Attributes:
        text: the claim in words.
        row, than: names of rows.
        margin: points of accuracy by which `row` may stay below `than`.
        paired: whether runs are compared seed by seed.
    """

    text: str
    row: str
    than: str
    margin: float = 0.0
    paired: bool = False


@dataclasses.dataclass(frozen=True)
class View:
    """Some rows of an experiment, shown as one table and one panel of its picture.

    Attributes:
        kind: 'curves' (accuracy against size, a line per series), 'steps' (a row each, with its
            steps of training), 'rates' (against learning rate), 'dots' (by `group`), 'differences'
            (what the claims compare), 'precisions' (accuracy against bytes of exports),
            'frontier' (the same, means over runs, a line per file) or 'errors' (of conversions; a
            table alone).
        title: of the section and the panel; '' for an experiment's only view.
        rows: names of rows.
        text: before the table, in Markdown.
        axis: of 'dots', what the groups are.
    """

    kind: str
    title: str = ""
    rows: tuple[str, ...] = ()
    text: str = ""
    axis: str = ""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Rows that belong together.

    Attributes:
        name: such as 'table1'.
        scale: 'paper', exactly the paper's models and recipes, 'reduced' or 'standard', the same
            questions at sizes that a laptop trains, or 'sweep', an ablation of one's own.
        rows: in the order of the report.
        plot: kind of the only view, of all rows, where no `views` are given.
        measure: what the accuracies are of.
    """

    name: str
    scale: str
    title: str
    question: str
    rows: tuple[Row, ...]
    plot: str = "curves"
    views: tuple[View, ...] = ()
    claims: tuple[Claim, ...] = ()
    measure: str = "test accuracy"

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        repeated = [name for name, number in collections.Counter(names).items() if number > 1]
        if repeated:
            raise ValueError(f"{self.name}: several rows are named {', '.join(repeated)}")
        if not self.rows:
            raise ValueError(f"{self.name} has no rows at scale {self.scale!r}")
        mentions = [
            *(("a claim is about", name) for c in self.claims for name in (c.row, c.than)),
            *(("a view shows", name) for view in self.views for name in view.rows),
            *((f"row {row.name!r} needs", name) for row in self.rows for name in row.needs),
        ]
        for what, name in mentions:
            if name not in names:
                raise ValueError(f"{self.name}: {what} {name!r}, which is no row")
        try:
            graphlib.TopologicalSorter({row.name: row.needs for row in self.rows}).prepare()
        except graphlib.CycleError as error:
            circle = " -> ".join(error.args[1])
            raise ValueError(f"{self.name}: rows need each other in a circle: {circle}") from error

    @property
    def folder(self) -> str:
        """Name of the folder of its runs: rows of one name in several tables are one run."""
        return f"{self.name}-{self.scale}" if self.scale == "sweep" else self.scale

    @property
    def shown(self) -> tuple[View, ...]:
        """The views, or the one of all rows."""
        return self.views or (View(self.plot, rows=tuple(row.name for row in self.rows)),)
