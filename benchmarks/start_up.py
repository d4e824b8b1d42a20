"""From nothing to the first step: import, trace, compile, and the same with a compilation cache."""

import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import steps
from benchmarks.benchmark import Row
from smh_jax import methods
from smh_jax.training import parallel

IMPORT = "import"
_TIMED_IMPORT = (
    "import time; t = time.perf_counter(); import smh_jax; print(time.perf_counter() - t)"
)


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'model:side:batch:percent', or 'import'. Each is measured once."""
    if case == IMPORT:
        # In a process of its own, the interpreter's start excluded.
        root = pathlib.Path(__file__).parents[1]
        printed = subprocess.check_output([sys.executable, "-c", _TIMED_IMPORT], cwd=root)
        return [{"model": "import smh_jax", "import_seconds": float(printed)}]
    model_name, *numbers = case.split(":")
    side, batch_size, percent = map(int, numbers)
    model, manifest = steps.create(model_name, side)
    target_size = manifest.num_weights * percent // 100
    batch = steps.batch_of(model_name, side, batch_size)
    rows = []
    for label, method in (
        ("dense", methods.create("dense", manifest)),
        ("smh", methods.create("smh", manifest, target_size=target_size)),
    ):
        state, step = steps.initial_state_and_step(model, method, side)
        state = parallel.backend().replicate(state)
        row: Row = {"model": model_name, "method": label, "num_tensors": len(manifest.tensors)}
        with _timed(row, "trace_seconds"):
            lowered = step.lower(state, batch)
        with tempfile.TemporaryDirectory() as directory, _cache(directory):
            for name in ("compile_seconds", "cached_seconds"):
                jax.clear_caches()
                with _timed(row, name):
                    compiled = lowered.compile()
        with _timed(row, "step_seconds"):
            jax.block_until_ready(compiled(state, batch))
        for name, of in (("first", "compile_seconds"), ("cached_first", "cached_seconds")):
            row[f"{name}_step_seconds"] = row["trace_seconds"] + row[of] + row["step_seconds"]
        rows.append(row)
    return rows


@contextlib.contextmanager
def _timed(row: Row, key: str) -> Iterator[None]:
    """Puts the seconds that the body takes into a row."""
    begin = time.perf_counter()
    yield
    row[key] = time.perf_counter() - begin


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
