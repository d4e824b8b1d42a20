"""The paper's table 1 on this machine: training steps of every method, dense as the reference."""

import statistics
from typing import Any

from benchmarks import steps, timing
from benchmarks.piece import Piece, Results, Row
from smh_jax import methods

DENSE = "dense"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "smh": ("smh", {}),
    "smh, Kronecker": ("smh", {"layout": "kronecker"}),
    "smh, 4 blocks": ("smh", {"blocks": 4}),
    "1 hash": ("multi_hash", {}),
    "2 hashes": ("multi_hash", {"num_hashes": 2}),
    "10 hashes": ("multi_hash", {"num_hashes": 10}),
}
TABLE_1 = ("smh", "1 hash", "2 hashes", "10 hashes")


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:side:batch:target_size'.

    More target sizes may follow, for SMH alone, and 'table1' for no methods but the paper's.
    """
    model_name, *numbers = case.removesuffix(":table1").split(":")
    side, batch_size, target_size, *more = map(int, numbers)
    labels = TABLE_1 if case.endswith(":table1") else tuple(METHODS)
    model, manifest = steps.create(model_name, side)
    made: dict[str, methods.Method] = {DENSE: methods.create("dense", manifest)}
    for label in labels:
        name, options = METHODS[label]
        made[label] = methods.create(name, manifest, target_size=target_size, **options)
    for size in more:
        made[f"smh at {size / manifest.num_weights:.0%}"] = methods.create(
            "smh", manifest, target_size=size
        )
    batch = steps.batch_of(model_name, side, batch_size)
    trainings = {
        label: steps.Training(*steps.build(model, method, side), batch)
        for label, method in made.items()
    }
    seconds = timing.interleaved(trainings, repeats)
    return [
        {
            "model": model_name,
            "side": side,
            "batch_size": batch_size,
            "method": label,
            "num_variables": method.num_variables,
            "seconds": statistics.median(seconds[label]),
            "milliseconds": 1e3 * statistics.median(seconds[label]),
            "examples_per_second": batch_size / statistics.median(seconds[label]),
            "ratio": timing.median_ratio(seconds[label], seconds[DENSE]),
        }
        for label, method in made.items()
    ]


def plot(results: Results, path) -> None:
    """How the overhead falls as the batch grows: a panel per model."""
    from benchmarks import plots

    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for rows in results.values():
        for row in rows:
            if row["method"] != DENSE:
                panel = panels.setdefault(f"{row['model']} at {row['side']} pixels", {})
                panel.setdefault(row["method"], []).append((row["batch_size"], row["ratio"]))
    plots.curves(
        panels,
        path,
        x="examples per step",
        y=["seconds per step, multiples of dense"] * len(panels),
        line=1.0,
        options={"xscale": "log"},
    )


# ResNet-32 of CIFAR at 10% and, for SMH alone, at 25% of its 464,154 weights.
_RESNET = "46415:116038"

PIECE = Piece(
    name="training_step",
    question="How much longer does a training step take than without compression?",
    cases=(
        *(f"cifar_resnet32:32:{batch}:{_RESNET}" for batch in (16, 64, 128, 256)),
        *(f"efficientnet_b0:224:{batch}:3000000" for batch in (4, 16)),
        *(f"efficientnet_b2:260:{batch}:5300000:table1" for batch in (4, 16)),
    ),
    small_cases=("cifar_resnet8:8:4:20000", "cifar_resnet8:8:8:20000:40000"),
    measure=measure,
    columns=(
        ("model", "model", ""),
        ("side", "pixels", "d"),
        ("batch_size", "batch", "d"),
        ("method", "method", ""),
        ("num_variables", "variables", ","),
        ("milliseconds", "ms per step", ".0f"),
        ("examples_per_second", "examples/s", ".1f"),
        ("ratio", "x dense", ".2f"),
    ),
    plot=plot,
)
