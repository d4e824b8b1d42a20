"""The search for the learning rates of the small scales: the same for every method.

Trained on 50,000 training examples and judged on the other 10,000, at the smallest size of the
comparisons. The other rows of a scale take the best of each method from the committed results,
`experiments/results/tuning_reduced.json` and `tuning_standard.json`.
"""

from experiments.experiment import Experiment
from experiments.tables.kinds import KINDS
from experiments.tables.small_scale import SMALL_SCALES

LEARNING_RATES = (0.2, 0.4, 0.8, 1.6)
# Where the best was at the edge of these, the search was extended.
FURTHER: dict[str, dict[str, tuple[float, ...]]] = {
    "reduced": {
        **dict.fromkeys(("smh_fixed_scale", "hash_1", "hash_2", "tensor_train"), (3.2,)),
        "width_multiplier": (3.2, 6.4),
        "tensor_ring": (0.1,),
    },
    "standard": {"width_multiplier": (3.2,)},
}
HELD_OUT = {"data.train_split": "train[:50000]", "data.eval_split": "train[50000:]"}


def experiment(scale: str) -> Experiment:
    """Every method at every rate, at a small scale: the paper's recipes have theirs."""
    small = SMALL_SCALES[scale]
    fields = {"epochs": small.search_epochs, "seeds": (0,), "overrides": HELD_OUT}
    rows = []
    for kind, (method, _) in KINDS.items():
        for rate in sorted((*LEARNING_RATES, *FURTHER[scale].get(kind, ()))):
            row = {"name": f"tuning-{kind}-{rate}", "rate": rate, **fields}
            if kind == "width_multiplier":
                rows.append(small.narrow_row(small.tenth, **row))
            else:
                size = None if method == "dense" else small.tenth
                rows.append(small.row(kind, size=size, **row))
    return Experiment(
        "tuning",
        scale,
        title=f"Learning rates at 10% of ResNet-{small.depth}'s variables",
        question="Which learning rate suits each method, on examples held out of training?",
        rows=tuple(rows),
        plot="rates",
        measure="accuracy on held-out training examples",
    )
