"""Table 3: a learnable scale per layer against a fixed one."""

from experiments import paper
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
_SCALES = {"smh_fixed_scale": "fixed", "smh_learnable_scale": "learnable"}


def experiment(scale: str) -> Experiment:
    """EfficientNet-B0 to B4 at the paper's sizes; reduced: ResNet-8, 14 and 20 at two sizes."""
    return Experiment(
        name="table3",
        scale=scale,
        title="Table 3: per-layer learnable scale",
        question="Does a learnable scale help?",
        rows=_paper() if scale == "paper" else _reduced(),
    )


def _paper() -> tuple[Row, ...]:
    return tuple(
        imagenet.row(
            model,
            kind,
            size=size,
            series=f"{model.removeprefix('efficientnet_').upper()}, {_SCALES[kind]}",
            paper=paper.find("table3", model, kind, size),
        )
        for model, sizes in TARGETS.items()
        for size in sizes
        for kind in _SCALES
    )


def _reduced() -> tuple[Row, ...]:
    return tuple(
        reduced.row(
            f"resnet{depth}-{scale}-{size}",
            kind,
            series=f"ResNet-{depth}, {scale}",
            depth=depth,
            size=size,
        )
        for depth in (8, 14, 20)
        for size in (reduced.TENTH, reduced.QUARTER)
        for scale, kind in (("fixed", "smh_fixed_scale"), ("learnable", "smh"))
    )
