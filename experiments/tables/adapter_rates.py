"""The search for the rates of `experiments.tables.adapters`: the same for every method.

On examples held out of the training that adapts, at the larger of the sizes.
"""

import dataclasses

from experiments.experiment import Experiment, View
from experiments.tables.adapters import CASES, KINDS, SEARCHED

# Where the best was at the edge of the rates, the search was extended.
FURTHER: dict[tuple[str, str], tuple[float, ...]] = {
    ("rotated", "smh"): (1.6, 3.2),
    ("rotated", "low_rank"): (1.6, 3.2),
    ("rotated", "dense"): (1.6,),
}


def experiment(scale: str) -> Experiment:
    """Every method at every rate, at the scale 'reduced' alone."""
    rows, views = [], []
    for case in CASES:
        if case.name in SEARCHED:
            continue
        of_case = [
            case.row(
                kind,
                None if kind == "dense" else max(case.sizes),
                rate,
                name=f"rates-{case.name}-{kind}-{rate:g}",
                overrides=case.held_out,
                seeds=(0,),
            )
            for kind in KINDS
            for rate in sorted((*case.rates[kind], *FURTHER.get((case.name, kind), ())))
        ]
        rows += [dataclasses.replace(case.base, seeds=(0,)), *of_case]
        views.append(View("rates", case.title, tuple(row.name for row in of_case)))
    return Experiment(
        "adapter_rates",
        scale,
        title="Learning rates of adapters",
        question="Which learning rate suits each way to adapt a model, on held-out examples?",
        rows=tuple(rows),
        views=tuple(views),
        measure="accuracy on held-out training examples",
    )
