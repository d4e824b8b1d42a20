"""The search for the learning rates of the reduced scale: the same for every method.

Trained on 50,000 training examples and judged on the other 10,000, at the smallest size of the
comparisons. The other rows of the reduced scale take the best of each method from the
committed results, `experiments/results/tuning_reduced.json`.
"""

from experiments.experiment import Experiment
from experiments.tables import reduced
from experiments.tables.kinds import KINDS

LEARNING_RATES = (0.2, 0.4, 0.8, 1.6)
# Where the best was at the edge of these, the search was extended.
FURTHER: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("smh_fixed_scale", "hash_1", "hash_2", "tensor_train"), (3.2,)),
    "width_multiplier": (3.2, 6.4),
    "tensor_ring": (0.1,),
}
HELD_OUT = {"data.train_split": "train[:50000]", "data.eval_split": "train[50000:]"}


def experiment(scale: str) -> Experiment:
    """Every method at every rate, at the scale 'reduced' alone: the paper's recipes have theirs."""
    rows = []
    for kind, (method, _) in KINDS.items():
        fields = {"size": None if method == "dense" else reduced.TENTH, "seeds": (0,)}
        if kind == "width_multiplier":
            fields["width"] = reduced.WIDTHS[8, reduced.TENTH]
        for rate in sorted((*LEARNING_RATES, *FURTHER.get(kind, ()))):
            name = f"tuning-{kind}-{rate}"
            rows.append(reduced.row(kind, name=name, rate=rate, overrides=HELD_OUT, **fields))
    return Experiment(
        "tuning",
        scale,
        title="Learning rates at 10% of ResNet-8's variables",
        question="Which learning rate suits each method, on examples held out of training?",
        rows=tuple(rows),
        plot="rates",
        measure="accuracy on held-out training examples",
    )
