"""The paper's table 1 on this machine: training steps of every method, dense as the reference."""

import statistics
from typing import Any

from benchmarks import steps, timing
from benchmarks.benchmark import Benchmark, Curves, Row
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
    compared: dict[str, methods.Method] = {DENSE: methods.create("dense", manifest)}
    for label in labels:
        name, options = METHODS[label]
        compared[label] = methods.create(name, manifest, target_size=target_size, **options)
    for size in more:
        compared[f"smh at {size / manifest.num_weights:.0%}"] = methods.create(
            "smh", manifest, target_size=size
        )
    timed = steps.time_steps(model_name, model, compared, side, batch_size, repeats)
    return [
        {
            "model": model_name,
            "side": side,
            "batch_size": batch_size,
            "method": label,
            "num_variables": compared[label].num_variables,
            "seconds": seconds,
            "milliseconds": 1e3 * seconds,
            "examples_per_second": batch_size / seconds,
            "ratio": timing.median_ratio(training.seconds, timed[DENSE].seconds),
        }
        for label, training in timed.items()
        for seconds in (statistics.median(training.seconds),)
    ]


# ResNet-32 of CIFAR at 10% and, for SMH alone, at 25% of its 464,154 weights.
_RESNET = "46415:116038"

BENCHMARK = Benchmark(
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
    plot=Curves(
        x="batch_size",
        x_label="examples per step",
        measures=(("{model} at {side} pixels", "ratio", "seconds per step, multiples of dense"),),
        without=DENSE,
        line=1.0,
        log=True,
    ),
)
