"""Table 3: a learnable scale per layer against a fixed one."""

from experiments import paper
from experiments.experiment import Claim, Experiment
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
    row, settings = _reduced_row, [(depth, size) for depth in DEPTHS for size in SIZES]
    if scale == "paper":
        row = _paper_row
        settings = [(model, size) for model, sizes in TARGETS.items() for size in sizes]
    return Experiment(
        name="table3",
        scale=scale,
        title="Table 3: per-layer learnable scale",
        question="Does a learnable scale help?",
        rows=tuple(row(*setting, kind) for setting in settings for kind in _SCALES),
        claims=tuple(
            Claim(
                f"{row(model, size, 'smh').group} at {size:,} variables is better with learnable "
                "scales than with fixed ones",
                row=row(model, size, "smh").name,
                than=row(model, size, "smh_fixed_scale").name,
            )
            for model, size in settings
        ),
    )


def _paper_row(model: str, size: int, kind: str) -> Row:
    scale = _SCALES[kind]
    return imagenet.row(
        model,
        kind,
        size=size,
        series=f"{model.removeprefix('efficientnet_').upper()}, {scale}",
        paper=paper.find("table3", model, f"smh_{scale}_scale", size),
    )


def _reduced_row(depth: int, size: int, kind: str) -> Row:
    return reduced.row(kind, series=f"ResNet-{depth}, {_SCALES[kind]}", depth=depth, size=size)
