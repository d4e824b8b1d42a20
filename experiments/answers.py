"""Claims answered, plainly, by the runs of their rows."""

import math
import statistics

from experiments.experiment import Claim
from experiments.records import Record

# In standard errors of the difference: what is closer, runs of other seeds may turn.
_NOISE = 2.0


def difference(claim: Claim, records: tuple[Record, ...]) -> tuple[float, float | None] | None:
    """By how many points the claim's row is better, and the standard error of that.

    There is no error of a single seed, and nothing while one of the rows has no run.
    """
    row, than = _rows_of(claim, records)
    if row.mean is None or than.mean is None:
        return None
    if claim.paired:
        each = paired_differences(claim, records)
        error = statistics.stdev(each) / math.sqrt(len(each)) if len(each) > 1 else None
        return (statistics.fmean(each), error) if each else None
    error = None
    if row.stddev is not None and than.stddev is not None:
        error = math.sqrt(row.stddev**2 / len(row.runs) + than.stddev**2 / len(than.runs))
    return row.mean - than.mean, error


def paired_differences(claim: Claim, records: tuple[Record, ...]) -> list[float]:
    """By how many points the claim's row is better with each seed that both rows have."""
    row, than = _rows_of(claim, records)
    theirs = than.accuracies
    return [ours - theirs[seed] for seed, ours in row.accuracies.items() if seed in theirs]


def answer(claim: Claim, records: tuple[Record, ...]) -> str:
    """A line of Markdown: the claim, yes or no, and the means, in percent, that say so."""
    mean_error = difference(claim, records)
    if mean_error is None:
        return f"{claim.text}: not trained yet."
    mean, error = mean_error
    row, than = _rows_of(claim, records)
    verdict = "**yes**" if mean + claim.margin > 0 else "**no**"
    numbers = f"{row.mean:.2f} against {than.mean:.2f}, {mean:+.2f}"
    if error is None:
        return f"{claim.text}: {verdict}, of a single seed ({numbers})."
    if abs(mean + claim.margin) < _NOISE * error:
        verdict += ", but within the noise"
    return f"{claim.text}: {verdict} ({numbers} ± {error:.2f})."


def _rows_of(claim: Claim, records: tuple[Record, ...]) -> tuple[Record, Record]:
    by_name = {record.row.name: record for record in records}
    return by_name[claim.row], by_name[claim.than]
