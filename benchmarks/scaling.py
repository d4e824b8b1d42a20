"""Data parallelism on forced CPU devices: overhead of a step, and what it all-reduces."""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

import jax

from benchmarks import steps
from benchmarks.benchmark import Row
from smh_jax import methods
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
        flags = os.environ.get("XLA_FLAGS", "")
        flags += f" --xla_force_host_platform_device_count={devices}"
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "benchmarks.scaling", case, str(repeats)]
        root = pathlib.Path(__file__).parents[1]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
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
    model_name, *numbers = case.split(":")
    side, batch_size, target_size = map(int, numbers)
    model, manifest = steps.create(model_name, side)
    compared = {
        "dense": methods.create("dense", manifest),
        "smh": methods.create("smh", manifest, target_size=target_size),
    }
    trainings, seconds = steps.time_steps(model_name, model, compared, side, batch_size, repeats)
    return [
        {
            "model": model_name,
            "batch_size": batch_size,
            "devices": jax.device_count(),
            "method": label,
            "num_variables": compared[label].num_variables,
            "seconds": statistics.median(seconds[label]),
            "all_reduced_bytes": all_reduced_bytes(training.compiled.as_text()),
        }
        for label, training in trainings.items()
    ]


if __name__ == "__main__":
    print(json.dumps(measure_here(sys.argv[1], int(sys.argv[2]))))
