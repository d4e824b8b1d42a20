"""The smallest file at an accuracy: bytes of real files, of SMH and of what one might take instead.

Not in the paper. Every file has all of a model: weights, batch norm, and how it is made.
"""

from typing import Any

from experiments.experiment import Claim, Experiment, View
from experiments.row import RUN_OF, Row
from experiments.tables.small_scale import REDUCED

# Chosen on held-out training images among 0, 0.03 and 0.1 at one step.
RATE_WEIGHT = 0.03
# Exports of one run, whose pools are rounded after training.
AFTER = ("float32", "int8", "int4", "coded:0.125", "coded:0.25")
TEACHER = {"distillation.teacher": f"{RUN_OF}resnet8-dense"}
# Kind and size.
NETWORKS = {
    "dense": ("dense", None),
    "width multiplier 10%": ("width_multiplier", REDUCED.tenth),
    "width multiplier 25%": ("width_multiplier", REDUCED.quarter),
    "SMH 10%": ("smh", REDUCED.tenth),
    "SMH 25%": ("smh", REDUCED.quarter),
}
# Precisions at which networks are trained.
TRAINED = {
    "dense": ("coded:0.5", "coded:1.0", "coded:1.5", "int3", "ternary"),
    "width multiplier 10%": ("coded:0.25", "coded:0.5"),
    "width multiplier 25%": ("coded:0.5", "coded:1.0"),
    "SMH 10%": ("coded:0.125", "coded:0.25", "coded:0.5", "coded:1.0"),
    "SMH 25%": ("coded:0.25", "coded:0.5", "coded:1.0"),
}
DISTILLED = {
    "dense": "coded:1.0",
    "width multiplier 10%": "coded:0.25",
    "width multiplier 25%": "coded:0.5",
    "SMH 10%": "coded:0.25",
    "SMH 25%": "coded:0.25",
}
# Share that is pruned, and the step.
PRUNED = (
    ("dense", 0.8, 1.0),
    ("dense", 0.9, 1.0),
    ("width multiplier 25%", 0.5, 0.5),
    ("SMH 25%", 0.5, 0.5),
)


def _row(network: str, series: str, precisions: tuple[str, ...], **fields: Any) -> Row:
    kind, size = NETWORKS[network]
    fields |= {"series": f"{network}, {series}", "precisions": precisions}
    if kind == "width_multiplier":
        return REDUCED.narrow_row(size, **fields)
    return REDUCED.row(kind, size=size, **fields)


def _trained(network: str, precision: str, how: str = "", **overrides: Any) -> Row:
    """A network trained at the precision of its file, in one more way than that."""
    coded = precision.startswith("coded")
    overrides |= {"pool_precision": precision} | ({"rate_weight": RATE_WEIGHT} if coded else {})
    parts = ("frontier", network, how, precision)
    series = f"{how}, trained {'coded' if coded else 'in few bits'}".removeprefix(", ")
    name = "-".join(filter(None, parts)).replace(" ", "_")
    return _row(network, series, (precision,), name=name, overrides=overrides)


def experiment(scale: str) -> Experiment:
    """All rows, at the scale 'reduced' alone."""
    rows = (
        # What is rounded after training is a run of other tables too.
        *(_row(network, "rounded after training", AFTER) for network in NETWORKS),
        *(_trained(network, at) for network, steps in TRAINED.items() for at in steps),
        *(
            _trained(network, f"coded:{step}", f"pruned {share:.0%}", pruning=share)
            for network, share, step in PRUNED
        ),
        *(_trained(network, at, "distilled", **TEACHER) for network, at in DISTILLED.items()),
    )
    return Experiment(
        "frontier",
        scale,
        title="Accuracy against bytes of the file",
        question="Which model is the smallest file at an accuracy?",
        rows=rows,
        views=(View("frontier", rows=tuple(row.name for row in rows)),),
        claims=(
            Claim(
                "SMH at 10%, trained coded at a quarter, keeps what it has unrounded less 0.2",
                row="frontier-SMH_10%-coded:0.25",
                than="resnet8-smh-7500",
                margin=0.2,
                paired=True,
            ),
        ),
    )
