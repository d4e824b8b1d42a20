"""The rows of a run: its metrics in the log, in TensorBoard's files and in metrics.jsonl."""

import os

from clu import metric_writers
from etils import epath

from smh_jax.training import metrics_file
from smh_jax.training.progress import Progress


class RowWriter(metric_writers.MultiWriter):
    """Writes rows to several places; to none, in processes besides the first.

    Attributes:
        file: the writer of metrics.jsonl, or None.
    """

    def __init__(
        self,
        file: metrics_file.JsonLinesWriter | None = None,
        others: tuple[metric_writers.MetricWriter, ...] = (),
    ) -> None:
        """Takes the writers."""
        super().__init__([*others, *([] if file is None else [file])])
        self.file = file

    def progress(self) -> dict[str, str]:
        """What a checkpoint says of the rows so far, by which `metrics_file` checks them."""
        return {} if self.file is None else {"rows_sha256": self.file.digest}


def row_writer(folder: epath.Path, kept: bytes, progress: Progress) -> RowWriter:
    """A writer to the log, TensorBoard and metrics.jsonl.

    Args:
        folder: of the run.
        kept: rows in metrics.jsonl up to the step from which the run is resumed. Later ones,
            written between the last checkpoint and the end of the process, are dropped: they will
            come again.
        progress: says each row in the log.
    """
    path = folder / "metrics.jsonl"
    metrics_file.cut(path, kept)
    return RowWriter(
        metrics_file.JsonLinesWriter(path, kept),
        (progress, metric_writers.SummaryWriter(os.fspath(folder))),
    )
