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


def rates_of(kind: str) -> tuple[float, ...]:
    """The learning rates to try for one of `kinds.KINDS`."""
    return tuple(sorted((*LEARNING_RATES, *FURTHER.get(kind, ()))))


def experiment(scale: str) -> Experiment:
    """Every method at every rate, at the scale 'reduced' alone: the paper's recipes have theirs."""
    rows = []
    for kind in KINDS:
        width = reduced.WIDTHS[8, reduced.TENTH] if kind == "width_multiplier" else 1.0
        size = reduced.TENTH if KINDS[kind][0] != "dense" else None
        rows += [
            reduced.row(
                kind,
                name=f"tuning-{kind}-{rate}",
                size=size,
                width=width,
                rate=rate,
                seeds=(0,),
                overrides=HELD_OUT,
            )
            for rate in rates_of(kind)
        ]
    return Experiment(
        name="tuning",
        scale=scale,
        title="Learning rates at 10% of ResNet-8's variables",
        question="Which learning rate suits each method, on examples held out of training?",
        rows=tuple(rows),
        plot="rates",
        measure="accuracy on held-out training examples",
    )
