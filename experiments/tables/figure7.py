"""Figure 7: all weights hashed, or those of convolutions only."""

from experiments.experiment import Experiment
from experiments.row import Row
from experiments.tables import imagenet, reduced

HASHED = {"all weights": "all", "convolutions only": "conv"}


def experiment(scale: str) -> Experiment:
    """EfficientNet-B1 to B5 at the size of B0; reduced: ResNet-8, 14 and 20 at 25% of ResNet-8."""
    return Experiment(
        name="figure7",
        scale=scale,
        title="Figure 7: all weights or convolutions only",
        question="Is it better to hash all weights or convolutions only?",
        rows=_paper() if scale == "paper" else _reduced(),
        plot="bars",
    )


def _paper() -> tuple[Row, ...]:
    # The bars of the figure cannot be read to a point of accuracy; no number of them is kept.
    return tuple(
        imagenet.row(f"efficientnet_b{number}", "smh", size=5_000_000, series=series, hashed=hashed)
        for number in range(1, 6)
        for series, hashed in HASHED.items()
    )


def _reduced() -> tuple[Row, ...]:
    return tuple(
        reduced.row(f"resnet{depth}-{hashed}", "smh", series=series, depth=depth,
            size=reduced.QUARTER, hashed=hashed)
        for depth in (8, 14, 20)
        for series, hashed in HASHED.items()
    )  # fmt: skip
