"""Table 3: a learnable scale per layer against a fixed one."""

from experiments import paper
from experiments.claim import Claim
from experiments.experiment import Experiment
from experiments.row import Row
from experiments.tables import imagenet, reduced

# Sizes in the order of the paper's table, which has 15 rows where its text says 16.
TARGETS = {
    "efficientnet_b0": (2_000_000, 3_000_000),
    "efficientnet_b1": (2_000_000, 3_000_000, 5_000_000),
    "efficientnet_b2": (2_000_000, 3_000_000, 5_000_000),
    "efficientnet_b3": (2_000_000, 5_000_000, 7_900_000, 9_300_000),
    "efficientnet_b4": (5_000_000, 7_900_000, 9_300_000),
}
DEPTHS = (8, 14, 20)
SIZES = (reduced.TENTH, reduced.QUARTER)
# Kinds of row, with the paper's name.
_SCALES = {"smh_fixed_scale": "fixed", "smh": "learnable"}


def experiment(scale: str) -> Experiment:
    """EfficientNet-B0 to B4 at the paper's sizes; reduced: ResNet-8, 14 and 20 at two sizes."""
    return Experiment(
        name="table3",
        scale=scale,
        title="Table 3: per-layer learnable scale",
        question="Does a learnable scale help?",
        rows=_paper() if scale == "paper" else _reduced(),
        claims=_claims(scale),
    )


def _claims(scale: str) -> tuple[Claim, ...]:
    targets = TARGETS if scale == "paper" else {f"resnet{depth}": SIZES for depth in DEPTHS}
    return tuple(
        Claim(
            f"{model} at {size:,} variables is better with learnable scales than with fixed ones",
            row=f"{model}-smh-{size}",
            than=f"{model}-smh_fixed_scale-{size}",
        )
        for model, sizes in targets.items()
        for size in sizes
    )


def _paper() -> tuple[Row, ...]:
    return tuple(
        imagenet.row(
            model,
            kind,
            size=size,
            series=f"{model.removeprefix('efficientnet_').upper()}, {scale}",
            paper=paper.find("table3", model, f"smh_{scale}_scale", size),
        )
        for model, sizes in TARGETS.items()
        for size in sizes
        for kind, scale in _SCALES.items()
    )


def _reduced() -> tuple[Row, ...]:
    return tuple(
        reduced.row(
            kind,
            series=f"ResNet-{depth}, {scale}",
            depth=depth,
            size=size,
        )
        for depth in DEPTHS
        for size in SIZES
        for kind, scale in _SCALES.items()
    )
