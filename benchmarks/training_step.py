"""The paper's table 1 on this machine: training steps of every method, dense as the reference."""

import statistics
from typing import Any

from benchmarks import steps, timing
from benchmarks.benchmark import Row
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
# What a case may end in, for fewer of them.
FEWER = {"table1": ("smh", "1 hash", "2 hashes", "10 hashes"), "smh": ("smh",)}


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:side:batch:target_size'.

    More target sizes may follow, for SMH alone, and 'table1' for no methods but the paper's or
    'smh' for no other.
    """
    model_name, *numbers = case.split(":")
    labels = FEWER[numbers.pop()] if numbers[-1] in FEWER else METHODS
    side, batch_size, target_size, *more = map(int, numbers)
    model, manifest = steps.create(model_name, side)
    compared: dict[str, methods.Method] = {DENSE: methods.create("dense", manifest)}
    for label in labels:
        name, options = METHODS[label]
        compared[label] = methods.create(name, manifest, target_size=target_size, **options)
    for size in more:
        label = f"smh at {size / manifest.num_weights:.0%}"
        compared[label] = methods.create("smh", manifest, target_size=size)
    _, seconds = steps.time_steps(model_name, model, compared, side, batch_size, repeats)
    medians = {label: statistics.median(each) for label, each in seconds.items()}
    return [
        {
            "model": model_name,
            "side": side,
            "batch_size": batch_size,
            "method": label,
            "num_variables": compared[label].num_variables,
            "seconds": median,
            "milliseconds": 1e3 * median,
            "examples_per_second": batch_size / median,
            "ratio": timing.median_ratio(seconds[label], seconds[DENSE]),
        }
        for label, median in medians.items()
    ]
