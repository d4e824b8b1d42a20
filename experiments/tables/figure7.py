"""Figure 7: all weights hashed, or those of convolutions only."""

from experiments.claim import Claim
from experiments.experiment import Experiment
from experiments.row import Row
from experiments.tables import imagenet, reduced

HASHED = {"all weights": "all", "convolutions only": "conv"}
DEPTHS = (8, 14, 20)
VARIANTS = range(1, 6)
SIZE = 5_000_000


def experiment(scale: str) -> Experiment:
    """EfficientNet-B1 to B5 at the size of B0; reduced: ResNet-8, 14 and 20 at 25% of ResNet-8."""
    return Experiment(
        name="figure7",
        scale=scale,
        title="Figure 7: all weights or convolutions only",
        question="Is it better to hash all weights or convolutions only?",
        rows=_paper() if scale == "paper" else _reduced(),
        plot="bars",
        claims=_claims(scale),
    )


def _claims(scale: str) -> tuple[Claim, ...]:
    if scale == "paper":
        models, size = [f"efficientnet_b{number}" for number in VARIANTS], SIZE
    else:
        models, size = [f"resnet{depth}" for depth in DEPTHS], reduced.QUARTER
    return tuple(
        Claim(
            f"{model} is better with all weights hashed than with convolutions only",
            row=f"{model}-smh-{size}",
            than=f"{model}-smh_conv-{size}",
        )
        for model in models
    )


def _paper() -> tuple[Row, ...]:
    # The bars of the figure cannot be read to a point of accuracy; no number of them is kept.
    return tuple(
        imagenet.row(f"efficientnet_b{number}", "smh", size=SIZE, series=series, hashed=hashed)
        for number in VARIANTS
        for series, hashed in HASHED.items()
    )


def _reduced() -> tuple[Row, ...]:
    return tuple(
        reduced.row("smh", series=series, depth=depth, size=reduced.QUARTER, hashed=hashed)
        for depth in DEPTHS
        for series, hashed in HASHED.items()
    )
