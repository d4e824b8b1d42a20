"""Data parallelism on forced CPU devices: overhead of a step, and what it all-reduces."""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

from benchmarks import timing
from benchmarks.piece import Piece, Results, Row
from smh_jax.tpu_compiler import hlo

DEVICES = (1, 2, 4, 8)


def all_reduced_bytes(program: str) -> int:
    """Bytes that a compiled program's all-reduces give to each device, read from its HLO text."""
    # Long tuples are numbered by comments.
    shapes = hlo.ALL_REDUCE.findall(re.sub(r"/\*.*?\*/", "", program))
    return sum(hlo.num_bytes(shape) for shape in shapes)


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:side:batch:target_size', the batch being that of all devices.

    Each number of devices needs a process of its own; ratios are of medians therefore.
    """
    rows: list[Row] = []
    for devices in DEVICES:
        flag = f"--xla_force_host_platform_device_count={devices}"
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scaling", case, str(repeats)],
            cwd=pathlib.Path(__file__).parents[1],
            env=os.environ | {"XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"scaling on {devices} devices failed: {done.stderr[-2000:]}")
        rows += json.loads(done.stdout.splitlines()[-1])
    alone = {row["method"]: row["seconds"] for row in rows if row["devices"] == DEVICES[0]}
    for row in rows:
        row["milliseconds"] = 1e3 * row["seconds"]
        row["ratio"] = row["seconds"] / alone[row["method"]]
        row["all_reduced_kib"] = row["all_reduced_bytes"] / 2**10
    return rows


def measure_here(case: str, repeats: int) -> list[Row]:
    """Rows for the devices of this process."""
    import jax

    from benchmarks import steps
    from smh_jax import methods

    model_name, *numbers = case.split(":")
    side, batch_size, target_size = map(int, numbers)
    model, manifest = steps.create(model_name, side)
    made = {
        "dense": methods.create("dense", manifest),
        "smh": methods.create("smh", manifest, target_size=target_size),
    }
    batch = steps.batch_of(model_name, side, batch_size)
    trainings = {
        label: steps.Training(*steps.build(model, method, side), batch)
        for label, method in made.items()
    }
    seconds = timing.interleaved(trainings, repeats)
    return [
        {
            "model": model_name,
            "batch_size": batch_size,
            "devices": jax.device_count(),
            "method": label,
            "num_variables": method.num_variables,
            "seconds": statistics.median(seconds[label]),
            "all_reduced_bytes": all_reduced_bytes(trainings[label].compiled.as_text()),
        }
        for label, method in made.items()
    ]


def plot(results: Results, path) -> None:
    """Step time over one device's, and bytes all-reduced, against the number of devices."""
    from benchmarks import plots

    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for rows in results.values():
        for row in rows:
            for title, key in (("time of a step", "ratio"), ("all-reduced", "all_reduced_kib")):
                panel = panels.setdefault(f"{row['model']}: {title}", {})
                panel.setdefault(row["method"], []).append((row["devices"], row[key]))
    plots.curves(
        panels,
        path,
        x="devices (on the same cores)",
        y=["multiples of one device's", "KiB per step"] * len(results),
    )


PIECE = Piece(
    name="scaling",
    question="What do more devices cost at constant total work, and what is all-reduced?",
    cases=("cifar_resnet32:32:128:46415",),
    small_cases=("cifar_resnet8:8:8:20000",),
    measure=measure,
    columns=(
        ("model", "model", ""),
        ("batch_size", "batch", "d"),
        ("devices", "devices", "d"),
        ("method", "method", ""),
        ("milliseconds", "ms per step", ".0f"),
        ("ratio", "x one device", ".2f"),
        ("all_reduced_kib", "all-reduced, KiB per step", ",.0f"),
    ),
    plot=plot,
)

if __name__ == "__main__":
    print(json.dumps(measure_here(sys.argv[1], int(sys.argv[2]))))
