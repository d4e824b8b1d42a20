"""The rows of a run: its metrics in the log, in TensorBoard's files and in metrics.jsonl."""

import json
import os
from collections.abc import Mapping
from typing import Any

from absl import logging
from clu import metric_writers
from etils import epath

from smh_jax.config.files import write_text
from smh_jax.training.progress import Progress


def metric_writer(
    folder: epath.Path, first_step: int, progress: Progress
) -> metric_writers.MetricWriter:
    """A writer to the log, TensorBoard and metrics.jsonl.

    Args:
        folder: of the run.
        progress: says each row in the log.
        first_step: step from which the run is resumed. Rows of later steps, written between the
            last checkpoint and the end of the process, are dropped: they will come again.
    """
    path = folder / "metrics.jsonl"
    if path.exists():
        rows = path.read_text().splitlines(keepends=True)
        kept = [row for row in rows if _step(row) is not None and _step(row) <= first_step]
        if len(kept) < len(rows):
            logging.info(
                "metrics.jsonl: %d rows after step %d will be written again",
                len(rows) - len(kept),
                first_step,
            )
            write_text(path, "".join(kept))
    return metric_writers.MultiWriter(
        [
            progress,
            metric_writers.SummaryWriter(os.fspath(folder)),
            JsonLinesWriter(path),
        ]
    )


class JsonLinesWriter:
    """Writes the scalars of each step as one JSON row; of clu's writers it has what is called."""

    def __init__(self, path: epath.Path) -> None:
        """Appends to the file at `path`."""
        self._path = path
        self._row: dict[str, Any] = {}

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Adds to the row of the step, which is written when it is flushed or the next begins."""
        if self._row and self._row["step"] != step:
            self.flush()
        self._row |= {"step": step} | {name: float(value) for name, value in scalars.items()}

    def flush(self) -> None:
        """Writes the row."""
        if self._row:
            with self._path.open("a") as file:
                file.write(json.dumps(self._row) + "\n")
            self._row = {}


def _step(row: str) -> int | None:
    """The step of a row of metrics.jsonl, or None if the row was cut off."""
    try:
        return json.loads(row)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return None
