"""The search for the rates of `experiments.tables.transformers`: the same for every method.

On examples held out of training, at the smaller of the sizes. SMH is tried at the larger one, too,
which shows how its rate carries over.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from experiments.experiment import Experiment, View
from experiments.row import Row
from experiments.tables.transformers import BASES, KINDS, Base

# Where the best was at the edge of the rates, the search was extended.
FURTHER: dict[tuple[str, str], tuple[float, ...]] = {
    ("vit", "dense"): (2e-3,),
    ("vit", "smh"): (6.4e-2,),
    ("vit", "width_multiplier"): (2e-3, 6.4e-2),
    ("gpt2", "dense"): (1.2e-2,),
}
# SMH at the larger size of the Vision Transformer; no other experiment takes a rate from these.
LARGER = (4e-3, 8e-3, 1.6e-2, 3.2e-2)


def experiment(scale: str) -> Experiment:
    """Every method at every rate, at the scale 'reduced' alone."""
    searches = []
    for base in BASES:
        tried = {kind: (*base.rates, *FURTHER.get((base.name, kind), ())) for kind in KINDS}
        searches.append((base.title, _rows(base, min(base.widths), tried)))
    vit = BASES[0]
    size = max(vit.widths)
    title = f"{vit.title}, {size:,} variables"
    larger = _rows(vit, size, {"smh": LARGER}, mark=f"-{size}")
    searches.append((title, [dataclasses.replace(row, group=title) for row in larger]))
    return Experiment(
        "transformer_rates",
        scale,
        title="Learning rates of transformers",
        question="Which learning rate suits each method, on examples held out of training?",
        rows=tuple(row for _, rows in searches for row in rows),
        views=tuple(
            View("rates", title, tuple(row.name for row in rows)) for title, rows in searches
        ),
        measure="accuracy on held-out training examples",
    )


def _rows(base: Base, size: int, tried: Mapping[str, Iterable[float]], mark: str = "") -> list[Row]:
    """A run of each kind at each of its rates; `mark` is in the rows' names."""
    return [
        base.row(
            kind,
            size,
            rate,
            name=f"rates-{base.name}-{kind}{mark}-{rate:g}",
            overrides=base.held_out,
            seeds=(0,),
        )
        for kind, rates in tried.items()
        for rate in sorted(rates)
    ]
