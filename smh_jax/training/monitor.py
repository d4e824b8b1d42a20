"""What a run says of itself while it trains: metrics, divergence, speed."""

import collections
import functools
import math
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from clu import metric_writers
from clu import metrics as clu_metrics

from smh_jax.config.errors import DivergedError
from smh_jax.training import metrics, parallel
from smh_jax.training.checkpoint import Checkpoints

# Steps that are dispatched before the metrics of an earlier one are read: enough to keep the
# devices busy, and few enough to bound the batches that wait in their memory.
STEPS_AHEAD = 4


class Monitor:
    """Reads the metrics of training steps, checks that they are finite and logs them.

    Nothing waits for the newest step: its metrics are read when `STEPS_AHEAD` more have been
    dispatched, by when they are there; or at once where the state itself is wanted.
    """

    def __init__(
        self,
        writer: metric_writers.MetricWriter,
        checkpoints: Checkpoints,
        stopwatch: "Stopwatch",
        learning_rates: np.ndarray,
        log_every_steps: int,
    ) -> None:
        """Logs to `writer` every `log_every_steps`, and the last of all steps.

        Args:
            writer: of the rows.
            checkpoints: of the run, to name the last good one.
            stopwatch: counts the steps.
            learning_rates: of all steps [steps].
            log_every_steps: over so many steps training metrics are averaged.
        """
        self._writer = writer
        self._checkpoints = checkpoints
        self._stopwatch = stopwatch
        self._learning_rates = learning_rates
        self._log_every_steps = log_every_steps
        self._ahead: collections.deque[tuple[int, metrics.Training]] = collections.deque()
        self._unlogged: list[metrics.Training] = []

    def add(self, step: int, measured: metrics.Training) -> None:
        """Takes the metrics of a step, which may not have been computed yet."""
        self._ahead.append((step, measured))

    def read(self, ahead: int = STEPS_AHEAD) -> bool:
        """Waits for, checks and logs the metrics of all steps but the last `ahead`.

        Returns:
            Whether a row was written.

        Raises:
            DivergedError: at the first step whose loss or gradient is not finite.
        """
        wrote = False
        while len(self._ahead) > ahead:
            step, measured = self._ahead.popleft()
            collection = parallel.first_replica(measured)
            self._check(step, collection)
            self._stopwatch.count_step()
            self._unlogged.append(collection)
            if step % self._log_every_steps == 0 or step == len(self._learning_rates):
                self._log(step)
                wrote = True
        return wrote

    def _log(self, step: int) -> None:
        scalars = {f"train_{name}": value for name, value in mean(self._unlogged).items()}
        scalars["learning_rate"] = float(self._learning_rates[step - 1])
        scalars["steps_per_second"] = self._stopwatch.steps_per_second()
        self._writer.write_scalars(step, scalars)
        self._unlogged = []

    def _check(self, step: int, collection: metrics.Training) -> None:
        values = collection.compute()
        bad = [name for name in ("loss", "grad_norm") if not math.isfinite(values[name])]
        if bad:
            self._checkpoints.wait()
            good = self._checkpoints.latest_step
            last = self._checkpoints.directory / str(good) if good is not None else "none was saved"
            raise DivergedError(
                f"{bad[0]}={float(values[bad[0]])} at step {step}; last good checkpoint: {last}. "
                "A lower optimizer.learning_rate or optimizer.clip_norm may help"
            )


def mean(collections: Iterable[clu_metrics.Collection]) -> dict[str, float]:
    """Each metric over all that the collections counted."""
    total = functools.reduce(lambda one, other: one.merge(other), collections)
    return {name: float(value) for name, value in total.compute().items()}


class Stopwatch:
    """Seconds of training over all processes that took part in a run, one after the other."""

    def __init__(self, train_seconds: float = 0.0, step_seconds: float = 0.0, steps: int = 0):
        """Goes on from what an earlier process counted (`progress`)."""
        self._before = train_seconds
        self._step_seconds = step_seconds
        self._steps = steps
        self._begin = time.monotonic()
        self._mark: float | None = None

    def start_steps(self) -> None:
        """Steps from here on are timed; compilation and evaluation lie before."""
        self._mark = time.monotonic()

    def count_step(self) -> None:
        """Adds the time since the last mark as that of a step."""
        if self._mark is not None:
            now = time.monotonic()
            self._step_seconds += now - self._mark
            self._steps += 1
            self._mark = now

    def train_seconds(self) -> float:
        """Wall time from the first step, compilation and evaluations included."""
        return self._before + time.monotonic() - self._begin

    def steps_per_second(self) -> float:
        """Of the timed steps; 0 where there is none."""
        return self._steps / self._step_seconds if self._steps else 0.0

    def progress(self) -> dict[str, Any]:
        """What the next process needs to go on."""
        return {
            "train_seconds": self.train_seconds(),
            "step_seconds": self._step_seconds,
            "steps": self._steps,
        }
