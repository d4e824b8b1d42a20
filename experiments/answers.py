"""Claims answered, plainly, by the runs of their rows."""

import dataclasses
import math
import statistics

from experiments.experiment import Claim
from experiments.records import Record

# In standard errors of the difference: what is closer, runs of other seeds may turn.
_NOISE = 2.0


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of the mean accuracies of two rows, in points.

    Attributes:
        mean: of the difference.
        error: its standard error; None for a single seed.
    """

    mean: float
    error: float | None


def difference(claim: Claim, records: tuple[Record, ...]) -> Difference | None:
    """By how much the claim's row is better; None while one of the two has no run."""
    row, than = rows_of(claim, records)
    if row.mean is None or than.mean is None:
        return None
    if claim.paired:
        by_seed = {run["seed"]: 100 * run["test_accuracy"] for run in than.runs}
        each = [
            100 * run["test_accuracy"] - by_seed[run["seed"]]
            for run in row.runs
            if run["seed"] in by_seed
        ]
        if not each:
            return None
        error = statistics.stdev(each) / math.sqrt(len(each)) if len(each) > 1 else None
        return Difference(statistics.fmean(each), error)
    if row.stddev is None or than.stddev is None:
        return Difference(row.mean - than.mean, None)
    error = math.sqrt(row.stddev**2 / len(row.runs) + than.stddev**2 / len(than.runs))
    return Difference(row.mean - than.mean, error)


def answer(claim: Claim, records: tuple[Record, ...]) -> str:
    """A line of Markdown: the claim, yes or no, and the means, in percent, that say so."""
    found = difference(claim, records)
    if found is None:
        return f"{claim.text}: not trained yet."
    row, than = rows_of(claim, records)
    verdict = "**yes**" if found.mean + claim.margin > 0 else "**no**"
    numbers = f"{row.mean:.2f} against {than.mean:.2f}, {found.mean:+.2f}"
    if found.error is None:
        return f"{claim.text}: {verdict}, of a single seed ({numbers})."
    if abs(found.mean + claim.margin) < _NOISE * found.error:
        verdict += ", but within the noise"
    return f"{claim.text}: {verdict} ({numbers} ± {found.error:.2f})."


def rows_of(claim: Claim, records: tuple[Record, ...]) -> tuple[Record, Record]:
    """The records of `claim.row` and `claim.than`."""
    by_name = {record.row.name: record for record in records}
    return by_name[claim.row], by_name[claim.than]
