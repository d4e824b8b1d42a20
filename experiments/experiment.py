"""An experiment: a table or figure of the paper, or an ablation, as rows and a way to show them."""

import collections
import dataclasses

from experiments.claim import Claim
from experiments.row import Row


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Rows that belong together.

    Attributes:
        name: such as 'table1'.
        scale: 'paper', exactly the paper's models and recipes, 'reduced', the same questions at a
            size that a laptop trains, or 'sweep', an ablation of one's own.
        title: of the table and the picture.
        question: that the rows answer.
        rows: in the order of the report.
        plot: 'curves' (accuracy against size, a line per series), 'bars' (a group per `group`) or
            'rates' (accuracy against learning rate).
        claims: that the rows decide.
        measure: what the accuracies are of.
    """

    name: str
    scale: str
    title: str
    question: str
    rows: tuple[Row, ...]
    plot: str = "curves"
    claims: tuple[Claim, ...] = ()
    measure: str = "test accuracy"

    def __post_init__(self) -> None:
        names = collections.Counter(row.name for row in self.rows)
        twice = [name for name, number in names.items() if number > 1]
        if twice:
            raise ValueError(f"{self.name}: several rows are named {', '.join(twice)}")
        if not self.rows:
            raise ValueError(f"{self.name} has no rows at scale {self.scale!r}")
        for claim in self.claims:
            for name in (claim.row, claim.than):
                if name not in names:
                    raise ValueError(f"{self.name}: a claim is about {name!r}, which is no row")

    @property
    def folder(self) -> str:
        """Of its runs: rows of one name in several tables of a scale are one run."""
        return f"{self.name}-{self.scale}" if self.scale == "sweep" else self.scale
