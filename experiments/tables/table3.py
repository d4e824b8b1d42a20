"""Table 3: a learnable scale per layer against a fixed one."""

import functools

from experiments import paper
from experiments.experiment import Claim, Experiment, View
from experiments.row import Row
from experiments.tables import imagenet
from experiments.tables.small_scale import SMALL_SCALES, SmallScale

# Sizes in the order of the paper's table, which has 15 rows where its text says 16.
TARGETS = {
    "efficientnet_b0": (2_000_000, 3_000_000),
    "efficientnet_b1": (2_000_000, 3_000_000, 5_000_000),
    "efficientnet_b2": (2_000_000, 3_000_000, 5_000_000),
    "efficientnet_b3": (2_000_000, 5_000_000, 7_900_000, 9_300_000),
    "efficientnet_b4": (5_000_000, 7_900_000, 9_300_000),
}
# Kinds of row, with the paper's name.
_SCALES = {"smh_fixed_scale": "fixed", "smh": "learnable"}


def experiment(scale: str) -> Experiment:
    """EfficientNet-B0 to B4 at the paper's sizes; else ResNets at two sizes."""
    if scale == "paper":
        row, sizes = _paper_row, TARGETS
    else:
        small = SMALL_SCALES[scale]
        row = functools.partial(_small_row, small)
        sizes = dict.fromkeys(small.depths, (small.tenth, small.quarter))
    settings = [(model, size) for model, model_sizes in sizes.items() for size in model_sizes]
    pairs = {size: [row(*size, kind) for kind in _SCALES] for size in settings}
    return Experiment(
        "table3",
        scale,
        title="Table 3: per-layer learnable scale",
        question="Does a learnable scale help?",
        rows=tuple(row for pair in pairs.values() for row in pair),
        claims=tuple(
            Claim(
                f"{learnable.group} at {size:,} variables is better with learnable scales than "
                "with fixed ones",
                row=learnable.name,
                than=fixed.name,
                paired=True,
            )
            for (_, size), (fixed, learnable) in pairs.items()
        ),
        views=(
            View("dots", "Accuracy", tuple(row.name for pair in pairs.values() for row in pair)),
            View("differences", "Differences of runs with the same seed"),
        ),
    )


def _paper_row(model: str, size: int, kind: str) -> Row:
    number = paper.find("table3", model, f"smh_{_SCALES[kind]}_scale", size)
    return imagenet.row(model, kind, size=size, series=f"{_SCALES[kind]} scales", paper=number)


def _small_row(scale: SmallScale, depth: int, size: int, kind: str) -> Row:
    return scale.row(kind, series=f"{_SCALES[kind]} scales", depth=depth, size=size)
