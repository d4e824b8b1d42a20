"""Figure 7: all weights hashed, or those of convolutions only."""

from experiments.experiment import Claim, Experiment
from experiments.row import Row
from experiments.tables import imagenet, reduced

HASHED = {"all weights": "all", "convolutions only": "conv"}
DEPTHS = (8, 14, 20)
VARIANTS = range(1, 6)
SIZE = 5_000_000


def experiment(scale: str) -> Experiment:
    """EfficientNet-B1 to B5 at the size of B0; reduced: ResNet-8, 14 and 20 at 25% of ResNet-8."""
    row, models = (_paper_row, VARIANTS) if scale == "paper" else (_reduced_row, DEPTHS)
    return Experiment(
        name="figure7",
        scale=scale,
        title="Figure 7: all weights or convolutions only",
        question="Is it better to hash all weights or convolutions only?",
        rows=tuple(row(model, series) for model in models for series in HASHED),
        plot="bars",
        claims=tuple(
            Claim(
                f"{first.group} is better with all weights hashed than with convolutions only",
                row=first.name,
                than=second.name,
            )
            for first, second in ([row(model, series) for series in HASHED] for model in models)
        ),
    )


def _paper_row(variant: int, series: str) -> Row:
    # The bars of the figure cannot be read to a point of accuracy; no number of them is kept.
    return imagenet.row(
        f"efficientnet_b{variant}", "smh", size=SIZE, series=series, hashed=HASHED[series]
    )


def _reduced_row(depth: int, series: str) -> Row:
    return reduced.row(
        "smh", series=series, depth=depth, size=reduced.QUARTER, hashed=HASHED[series]
    )
