"""The search for the rates of `experiments.tables.transformers`: the same for every method.

On examples held out of training, at the smaller of the sizes.
"""

from experiments.experiment import Experiment, View
from experiments.tables.transformers import BASES, KINDS

# Where the best was at the edge of the rates, the search was extended.
FURTHER: dict[tuple[str, str], tuple[float, ...]] = {
    ("vit", "dense"): (2e-3,),
    ("vit", "width_multiplier"): (2e-3, 6.4e-2),
    ("gpt2", "smh"): (0.384, 0.768),
    ("gpt2", "low_rank"): (0.384,),
    ("gpt2", "width_multiplier"): (0.384,),
}


def experiment(scale: str) -> Experiment:
    """Every method at every rate, at the scale 'reduced' alone."""
    rows, views = [], []
    for base in BASES:
        of_base = [
            base.row(
                kind,
                min(base.widths),
                rate,
                name=f"rates-{base.name}-{kind}-{rate:g}",
                overrides=base.held_out,
                seeds=(0,),
            )
            for kind in KINDS
            for rate in sorted((*base.rates, *FURTHER.get((base.name, kind), ())))
        ]
        rows += of_base
        views.append(View("rates", base.title, tuple(row.name for row in of_base)))
    return Experiment(
        "transformer_rates",
        scale,
        title="Learning rates of transformers",
        question="Which learning rate suits each method, on examples held out of training?",
        rows=tuple(rows),
        views=tuple(views),
        measure="accuracy on held-out training examples",
    )
