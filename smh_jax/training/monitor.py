"""What a run says of itself while it trains: metrics, divergence, speed, progress."""

import collections
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from clu import metrics as clu_metrics

from smh_jax.config.errors import DivergedError
from smh_jax.training import metrics
from smh_jax.training.checkpoint import Checkpoints
from smh_jax.training.evaluation import STEPS_AHEAD
from smh_jax.training.rows import RowWriter


class Monitor:
    """Reads the metrics of training steps, checks that they are finite and logs them.

    Nothing waits for the newest step: its metrics are read when `STEPS_AHEAD` more have been
    dispatched, by when they are there; or at once where the state itself is wanted.
    """

    def __init__(
        self,
        writer: RowWriter,
        checkpoints: Checkpoints,
        learning_rates: np.ndarray,
        log_every_steps: int,
        progress: Mapping[str, Any],
        first_replica: Callable[[metrics.Training], metrics.Training],
    ) -> None:
        """Logs to `writer` every `log_every_steps`, and the last of all steps.

        Args:
            writer: of the rows.
            checkpoints: of the run, to name the last good one.
            learning_rates: of all steps [steps].
            log_every_steps: over so many steps training metrics are averaged.
            progress: of an earlier process of the run; see `progress`. {} for a new run.
            first_replica: brings the metrics of a step to the host.
        """
        self._first_replica = first_replica
        self._writer = writer
        self._checkpoints = checkpoints
        self._learning_rates = learning_rates
        self._log_every_steps = log_every_steps
        self._pending: collections.deque[tuple[int, metrics.Training]] = collections.deque()
        self._has_rows = False
        self._unlogged = _restored(progress.get("unlogged", {}))
        timed = ("train_seconds", "step_seconds", "steps")
        self.stopwatch = Stopwatch(**{name: progress[name] for name in timed if name in progress})

    def add(self, step: int, measured: metrics.Training) -> None:
        """Takes the metrics of a step, which may not have been computed yet."""
        self._pending.append((step, measured))

    def read(self, wait: bool = False) -> None:
        """Checks and logs the metrics of all steps but the last few; of all, if it shall wait.

        Raises:
            DivergedError: at the first step whose loss or gradient is not finite.
        """
        while len(self._pending) > (0 if wait else STEPS_AHEAD):
            step, measured = self._pending.popleft()
            collection = self._first_replica(measured)
            self._check_finite(step, collection)
            self.stopwatch.count_step()
            self._unlogged = self._unlogged.merge(collection)
            if step % self._log_every_steps == 0 or step == len(self._learning_rates):
                self._log(step)

    def write_evaluation(
        self, step: int, measured: Mapping[str, float], of_state: Mapping[str, float]
    ) -> None:
        """Logs what was measured on the evaluation split after a step, and of the state itself."""
        self._write(step, {f"test_{name}": measured[name] for name in measured} | dict(of_state))

    def flush(self) -> None:
        """Writes the rows of all steps so far; those of one step are one row."""
        if self._has_rows:
            self._writer.flush()
            self._has_rows = False

    def _write(self, step: int, scalars: Mapping[str, float]) -> None:
        self._writer.write_scalars(step, scalars)
        self._has_rows = True

    def progress(self) -> dict[str, Any]:
        """What the next process needs to resume: seconds, rows, and metrics that none holds yet."""
        unlogged = {
            name: [float(average.total), float(average.count)]
            for name, average in vars(self._unlogged).items()
            if isinstance(average, clu_metrics.Average)
        }
        return {**self.stopwatch.progress(), **self._writer.progress(), "unlogged": unlogged}

    def _log(self, step: int) -> None:
        means = metrics.mean([self._unlogged])
        scalars = {f"train_{name}": value for name, value in means.items()}
        scalars["learning_rate"] = float(self._learning_rates[step - 1])
        scalars["steps_per_second"] = self.stopwatch.steps_per_second()
        self._write(step, scalars)
        self._unlogged = _restored({})

    def _check_finite(self, step: int, collection: metrics.Training) -> None:
        values = collection.compute()
        bad = [name for name in ("loss", "grad_norm") if not math.isfinite(values[name])]
        if bad:
            raise DivergedError(
                f"{bad[0]}={float(values[bad[0]])} at step {step}; last good checkpoint: "
                f"{self._checkpoints.describe_latest()}. "
                "A lower optimizer.learning_rate or optimizer.clip_norm may help"
            )


def _restored(unlogged: Mapping[str, Any]) -> metrics.Training:
    """The metrics that `Monitor.progress` described, none for {}; on the host, as what is added."""
    averages = {
        name: clu_metrics.Average(total=np.float32(total), count=np.float32(count))
        for name, (total, count) in unlogged.items()
    }
    return jax.tree.map(np.asarray, metrics.Training.empty().replace(**averages))


class Stopwatch:
    """Seconds of training over all processes that took part in a run, one after the other."""

    def __init__(self, train_seconds: float = 0.0, step_seconds: float = 0.0, steps: int = 0):
        """Continues from what an earlier process counted (`progress`)."""
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
        """What the next process needs to continue."""
        return {
            "train_seconds": self.train_seconds(),
            "step_seconds": self._step_seconds,
            "steps": self._steps,
        }
