"""Interleaved timing: noise of the machine falls on all candidates alike."""

import dataclasses
import functools
import os
import pathlib
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
from absl import logging

from benchmarks.benchmark import HUGE_PAGES


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function, called with the arguments that it was compiled for."""

    executable: jax.stages.Compiled
    arguments: tuple[Any, ...]

    def __call__(self) -> Any:
        return self.executable(*self.arguments)


def compiled(function: Callable[..., Any], *arguments: Any) -> Program:
    """The function, compiled for these arguments."""
    return Program(jax.jit(function).lower(*arguments).compile(), arguments)


def memory_mib(executable: jax.stages.Compiled) -> tuple[float, float]:
    """MiB of the arguments and of the peak of the temporaries, by XLA's own analysis."""
    memory = executable.memory_analysis()
    return memory.argument_size_in_bytes / 2**20, memory.temp_size_in_bytes / 2**20


def interleaved(
    candidates: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, list[float]]:
    """Seconds of each of so many calls of each candidate, taken in turn.

    The arrays that they return are waited for. Each is called once before anything is timed.
    """
    for name, candidate in candidates.items():
        logging.log_every_n_seconds(logging.INFO, "first call of %s", 10, name)
        jax.block_until_ready(candidate())
    return in_turn(
        {name: functools.partial(_seconds, call) for name, call in candidates.items()}, repeats
    )


def in_turn(measures: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """The results of the calls of each measure; the measures take turns."""
    results: dict[str, list[float]] = {name: [] for name in measures}
    begin = time.perf_counter()
    for repeat in range(1, repeats + 1):
        for name, measure in measures.items():
            results[name].append(measure())
        left = (time.perf_counter() - begin) * (repeats - repeat) / repeat
        message = "round %d of %d is done, %.0f s left"
        logging.log_every_n_seconds(logging.INFO, message, 10, repeat, repeats, left)
    return results


def _seconds(candidate: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(candidate())
    return time.perf_counter() - begin


def median_ratio(seconds: list[float], reference: list[float]) -> float:
    """Median of the ratios of calls that were made one after the other."""
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))


def quartiles(values: Sequence[float], form: str) -> str:
    """The first and the last, each in a format such as '.2f'; of a single value nothing."""
    if len(values) == 1:
        return ""
    first, _, last = statistics.quantiles(values, n=4)
    return f"{first:{form}} to {last:{form}}"


def machine() -> dict[str, Any]:
    """What the measurements were made on."""
    file = pathlib.Path("/proc/cpuinfo")
    processors = (
        re.findall(r"^model name\s*: (.*)", file.read_text(), re.M) if file.exists() else []
    )
    return {
        "processor": processors[0] if processors else platform.processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "python": platform.python_version(),
        "pages": "huge" if os.environ.get("GLIBC_TUNABLES") == HUGE_PAGES else "as the system has",
    }


def describe(machines: Iterable[Mapping[str, Any]]) -> str:
    """The different ones of some machines, in words."""
    texts = {", ".join(f"{key} {value}" for key, value in each.items()) for each in machines}
    return "; ".join(sorted(texts))
