"""Whether SMH's learning rate carries over from one size and depth to others.

Not in the paper. The rate of every recipe was found for one model at one size; of held-out examples
this shows where the best rate lies for three sizes of two networks.
"""

from experiments.experiment import Experiment, View
from experiments.tables.small_scale import DENSE_SIZES, REDUCED
from experiments.tables.tuning import HELD_OUT

DEPTHS = (8, 20)
SHARES = {"3%": 0.03, "10%": 0.1, "50%": 0.5}
LEARNING_RATES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


def experiment(scale: str) -> Experiment:
    """SMH at every size and rate, at the scale 'reduced' alone; a panel for each network."""
    rows, views = [], []
    for depth in DEPTHS:
        of_depth = [
            REDUCED.row(
                "smh",
                depth=depth,
                size=round(part * DENSE_SIZES[depth]),
                rate=rate,
                name=_name(depth, share, rate),
                series=f"SMH at {share}",
                overrides=HELD_OUT,
                seeds=(0,),
            )
            for share, part in SHARES.items()
            for rate in LEARNING_RATES
        ]
        rows += of_depth
        views.append(View("rates", f"ResNet-{depth}", tuple(row.name for row in of_depth)))
    return Experiment(
        "rate_transfer",
        scale,
        title="Learning rates over sizes and depths",
        question="Is the learning rate that suits SMH at one size right at others, too?",
        rows=tuple(rows),
        views=tuple(views),
        measure="accuracy on held-out training examples",
    )


def _name(depth: int, share: str, rate: float) -> str:
    if (depth, share) == (REDUCED.depth, "10%"):
        # The same runs as of the search for every method's rate.
        return f"tuning-smh-{rate}"
    return f"transfer-resnet{depth}-{share.removesuffix('%')}-{rate:g}"
