"""From nothing to the first step: import, trace, compile, and the same with a compilation cache."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import steps
from benchmarks.benchmark import Benchmark, Row
from smh_jax import methods
from smh_jax.training import parallel

IMPORT = "import"


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:side:batch:percent', or 'import'. Each is measured once."""
    del repeats
    if case == IMPORT:
        return [{"model": "import smh_jax", "import_seconds": _import_seconds()}]
    model_name, *numbers = case.split(":")
    side, batch_size, percent = map(int, numbers)
    model, manifest = steps.create(model_name, side)
    target_size = manifest.num_weights * percent // 100
    (batch,) = parallel.to_devices([steps.batch_of(model_name, side, batch_size)])
    rows = []
    for label, method in (
        ("dense", methods.create("dense", manifest)),
        ("smh", methods.create("smh", manifest, target_size=target_size)),
    ):
        state, step = steps.initial_state_and_step(model, method, side)
        state = parallel.replicate(state)
        begin = time.perf_counter()
        lowered = step.lower(state, batch)
        trace = time.perf_counter() - begin
        row: Row = {
            "model": model_name,
            "method": label,
            "num_tensors": len(manifest.tensors),
            "trace_seconds": trace,
        }
        with tempfile.TemporaryDirectory() as directory, _cache(directory):
            for name in ("compile_seconds", "cached_seconds"):
                jax.clear_caches()
                begin = time.perf_counter()
                compiled = lowered.compile()
                row[name] = time.perf_counter() - begin
        begin = time.perf_counter()
        jax.block_until_ready(compiled(state, batch))
        row["step_seconds"] = time.perf_counter() - begin
        for name, of in (("first", "compile_seconds"), ("cached_first", "cached_seconds")):
            row[f"{name}_step_seconds"] = trace + row[of] + row["step_seconds"]
        rows.append(row)
    return rows


@contextlib.contextmanager
def _cache(directory: str) -> Iterator[None]:
    """JAX's persistent compilation cache in a directory of its own."""
    options = {
        "jax_compilation_cache_dir": directory,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {option: getattr(jax.config, option) for option in options}
    for values in (options, before):
        for option, value in values.items():
            jax.config.update(option, value)
        compilation_cache.reset_cache()
        if values is options:
            yield


def _import_seconds() -> float:
    """Of `import smh_jax` in a process of its own, the interpreter's start excluded."""
    code = "import time; t = time.perf_counter(); import smh_jax; print(time.perf_counter() - t)"
    root = pathlib.Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


BENCHMARK = Benchmark(
    name="start_up",
    question="How long does it take until the first training step is done?",
    cases=(
        IMPORT,
        *("cifar_resnet32:32:128:10", "resnet50:64:4:10", "efficientnet_b0:64:4:50"),
        *("mobilenet_v2:64:4:50", "mobilenet_v3_large:64:4:50"),
    ),
    small_cases=(IMPORT, "cifar_resnet8:8:4:25"),
    measure=measure,
    columns=(
        ("model", "model", ""),
        ("method", "method", ""),
        ("num_tensors", "tensors", "d"),
        ("import_seconds", "import, s", ".1f"),
        ("trace_seconds", "trace and lower, s", ".1f"),
        ("compile_seconds", "compile, s", ".1f"),
        ("first_step_seconds", "until the first step is done, s", ".1f"),
        ("cached_first_step_seconds", "the same with a compilation cache, s", ".1f"),
    ),
)
