"""Figure 7: all weights hashed, or those of convolutions only."""

from experiments.experiment import Claim, Experiment, View
from experiments.tables import imagenet
from experiments.tables.small_scale import SMALL_SCALES

_HASHED = (
    {"series": "all weights", "hashed": "all"},
    {"series": "convolutions only", "hashed": "conv"},
)


def experiment(scale: str) -> Experiment:
    """EfficientNet-B1 to B5 at the size of B0; else ResNets at 25% of the smallest."""
    if scale == "paper":
        # The bars of the figure cannot be read to a point of accuracy; no number of them is kept.
        models = [f"efficientnet_b{variant}" for variant in range(1, 6)]
        pairs = [[imagenet.row(m, "smh", size=5_000_000, **h) for h in _HASHED] for m in models]
    else:
        small = SMALL_SCALES[scale]
        fields = [{"size": small.quarter, "depth": depth} for depth in small.depths]
        pairs = [[small.row("smh", **model, **h) for h in _HASHED] for model in fields]
    return Experiment(
        "figure7",
        scale,
        title="Figure 7: all weights or convolutions only",
        question="Is it better to hash all weights or convolutions only?",
        rows=tuple(row for pair in pairs for row in pair),
        claims=tuple(
            Claim(
                f"{first.group} is better with all weights hashed than with convolutions only",
                row=first.name,
                than=second.name,
                paired=True,
            )
            for first, second in pairs
        ),
        views=(
            View("dots", "Accuracy", tuple(row.name for pair in pairs for row in pair)),
            View("differences", "Differences of runs with the same seed"),
        ),
    )
