"""The smallest file at an accuracy: bytes of real files, of SMH and of what one might take instead.

Not in the paper. Every file has all of a model: weights, batch norm, and how it is made.
"""

from typing import Any

from experiments.experiment import Claim, Experiment, View
from experiments.row import Row
from experiments.tables.small_scale import REDUCED

# Chosen on held-out training images among 0, 0.03 and 0.1 at one step.
RATE_WEIGHT = 0.03
# Exports of one run, whose pools are rounded after training.
AFTER = ("float32", "int8", "int4", "coded:0.125", "coded:0.25")
# Trained with, in steps per root mean square.
TRAINED = (0.25, 0.5, 1.0)


def _rows(kind: str, series: str, size: int | None, steps: tuple[float, ...]) -> list[Row]:
    """One method at one size: as it is, and trained for an entropy coder at each step."""

    def row(suffix: str, precisions: tuple[str, ...], overrides: dict[str, Any]) -> Row:
        # What is rounded after training is a run of other tables too, and has its name there.
        name = f"frontier-{series}-{precisions[0]}".replace(" ", "_") if overrides else ""
        fields = {
            "name": name,
            "series": f"{series}, {suffix}",
            "precisions": precisions,
            "overrides": overrides,
        }
        if kind == "width_multiplier":
            return REDUCED.narrow_row(size, **fields)
        return REDUCED.row(kind, size=size, **fields)

    rows = [row("rounded after training", AFTER, {})]
    for step in steps:
        precision = f"coded:{step}"
        overrides = {"pool_precision": precision, "rate_weight": RATE_WEIGHT}
        rows.append(row("trained coded", (precision,), overrides))
    return rows


def experiment(scale: str) -> Experiment:
    """All rows, at the scale 'reduced' alone."""
    tenth, quarter = REDUCED.tenth, REDUCED.quarter
    rows = [
        *_rows("dense", "dense", None, (0.5, 1.0, 1.5)),
        *_rows("width_multiplier", "width multiplier", tenth, (0.25, 0.5)),
        *_rows("width_multiplier", "wider multiplier", quarter, (0.5, 1.0)),
        *_rows("smh", "SMH 10%", tenth, TRAINED),
        *_rows("smh", "SMH 25%", quarter, TRAINED),
    ]
    for precision in ("int3", "int2", "ternary"):
        rows.append(
            REDUCED.row(
                "dense",
                name=f"frontier-dense-{precision}",
                series="dense, trained in few bits",
                precisions=(precision,),
                overrides={"pool_precision": precision},
            )
        )
    return Experiment(
        "frontier",
        scale,
        title="Accuracy against bytes of the file",
        question="Which model is the smallest file at an accuracy?",
        rows=tuple(rows),
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
