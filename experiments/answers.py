"""Claims answered, plainly, by the runs of their rows."""

import math

from experiments.claim import Claim
from experiments.records import Record

# In standard errors of the difference of two means; what is closer, runs of other seeds may turn.
_NOISE = 2.0


def answer(claim: Claim, found: tuple[Record, ...]) -> str:
    """A line of Markdown: the claim, yes or no, and the means, in percent, that say so."""
    records = {record.name: record for record in found}
    row, than = records[claim.row], records[claim.than]
    if row.mean is None or than.mean is None:
        return f"{claim.text}: not trained yet."
    difference = row.mean - than.mean
    verdict = "**yes**" if difference + claim.margin > 0 else "**no**"
    numbers = f"{row.mean:.2f} against {than.mean:.2f}, {difference:+.2f}"
    if row.stddev is None or than.stddev is None:
        return f"{claim.text}: {verdict}, of a single seed ({numbers})."
    error = math.sqrt(row.stddev**2 / len(row.runs) + than.stddev**2 / len(than.runs))
    if abs(difference + claim.margin) < _NOISE * error:
        verdict += ", but within the noise"
    return f"{claim.text}: {verdict} ({numbers} ± {error:.2f})."
