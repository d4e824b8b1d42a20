"""Interleaved timing: noise of the machine falls on all candidates alike."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def interleaved(
    candidates: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, list[float]]:
    """Seconds of each call of each candidate, taken in turn.

    Args:
        candidates: functions of no arguments that return arrays, which are waited for. Each is
            called once before anything is timed.
        repeats: calls of each.
    """
    for candidate in candidates.values():
        jax.block_until_ready(candidate())
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
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
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor()
