"""What the log says of a run while it trains: a table, of which each logged step is a row."""

import datetime
from collections.abc import Mapping

from absl import logging

# Headings and widths; the two of the test set are filled where it was measured.
_COLUMNS = {
    "step": 8, "epoch": 7, "loss": 9, "accuracy": 9, "test loss": 10, "test acc.": 10,
    "images/s": 10, "ETA": 9,
}  # fmt: skip


class Progress:
    """Says one row per logged step; of clu's writers it has what is called.

    The heading comes with the first row, and the time that is left is that of the steps alone.
    """

    def __init__(self, num_steps: int, steps_per_epoch: float, batch_size: int) -> None:
        """For a run of so many steps, each of `batch_size` images."""
        self._num_steps, self._steps_per_epoch = num_steps, steps_per_epoch
        self._batch_size = batch_size
        self._scalars: dict[str, float] = {}
        self._has_heading = False

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds to the row of the step, which is said when it is flushed or the next begins."""
        if self._scalars and self._scalars["step"] != step:
            self.flush()
        self._scalars |= {"step": step, **scalars}

    def flush(self) -> None:
        """Says the row."""
        if not self._scalars:
            return
        if not self._has_heading:
            logging.info("%s", _line({name: name for name in _COLUMNS}))
            self._has_heading = True
        logging.info("%s", _line(self._cells(self._scalars)))
        self._scalars = {}

    def _cells(self, scalars: Mapping[str, float]) -> dict[str, str]:
        step = int(scalars["step"])
        cells = {"step": f"{step:,}", "epoch": f"{step / self._steps_per_epoch:.1f}"}
        for heading, name, form in (
            ("loss", "train_loss", ".4f"),
            ("accuracy", "train_accuracy", ".1%"),
            ("test loss", "test_loss", ".4f"),
            ("test acc.", "test_accuracy", ".2%"),
        ):
            if name in scalars:
                cells[heading] = format(float(scalars[name]), form)
        speed = float(scalars.get("steps_per_second", 0.0))
        if speed:
            left = round((self._num_steps - step) / speed)
            cells["images/s"] = f"{speed * self._batch_size:,.0f}"
            cells["ETA"] = str(datetime.timedelta(seconds=left))
        return cells


def _line(cells: Mapping[str, str]) -> str:
    return "".join(cells.get(name, "").rjust(width) for name, width in _COLUMNS.items())
