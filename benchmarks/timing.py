"""Interleaved timing: noise of the machine falls on all candidates alike."""

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import logging

# Of the environment variable GLIBC_TUNABLES.
HUGE_PAGES = "glibc.malloc.hugetlb=1"


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function together with its arguments.

    Attributes:
        executable: as `jax.jit(...).lower(...).compile()` gives it.
        arguments: of each call.
    """

    executable: Any
    arguments: tuple[Any, ...]

    def call(self) -> Any:
        """Runs it once."""
        return self.executable(*self.arguments)

    @property
    def temporary_bytes(self) -> int:
        """Peak of the temporaries by XLA's own analysis."""
        return self.executable.memory_analysis().temp_size_in_bytes

    @property
    def argument_bytes(self) -> int:
        """Of all arguments, by XLA's own analysis."""
        return self.executable.memory_analysis().argument_size_in_bytes


def compiled(function: Callable[..., Any], *arguments: Any) -> Program:
    """The function, compiled for these arguments."""
    return Program(jax.jit(function).lower(*arguments).compile(), arguments)


def interleaved(
    candidates: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, list[float]]:
    """Seconds of each call of each candidate, taken in turn.

    Args:
        candidates: functions of no arguments that return arrays, which are waited for. Each is
            called once before anything is timed.
        repeats: calls of each.
    """
    for name, candidate in candidates.items():
        logging.log_every_n_seconds(logging.INFO, "first call of %s", 10, name)
        jax.block_until_ready(candidate())
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    first = time.perf_counter()
    for repeat in range(repeats):
        if repeat:
            left = (time.perf_counter() - first) * (repeats - repeat) / repeat
            logging.log_every_n_seconds(
                logging.INFO, "round %d of %d, %.0f s left", 10, repeat + 1, repeats, left
            )
        for name, candidate in candidates.items():
            begin = time.perf_counter()
            jax.block_until_ready(candidate())
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def median_ratio(seconds: list[float], reference: list[float]) -> float:
    """Median of the ratios of calls that were made one after the other."""
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))


def machine() -> dict[str, Any]:
    """What the measurements were made on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "python": platform.python_version(),
        "pages": "huge" if os.environ.get("GLIBC_TUNABLES") == HUGE_PAGES else "as the system has",
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor()
