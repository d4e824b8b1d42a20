"""A run's metrics.jsonl: rows that are appended, and checked when they are read again."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from absl import logging
from etils import epath

from smh_jax.config.files import write_bytes


class JsonLinesWriter:
    """Writes the scalars of each step as one JSON row; of clu's writers it has what is called."""

    def __init__(self, path: epath.Path, kept: bytes = b"") -> None:
        """Appends to the file at `path`, which holds the rows `kept`."""
        self._path = path
        self._row: dict[str, Any] = {}
        self._hash = hashlib.sha256(kept)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Adds to the row of the step, which is written when it is flushed or the next begins."""
        if self._row and self._row["step"] != step:
            self.flush()
        self._row |= {"step": step} | {name: float(value) for name, value in scalars.items()}

    def flush(self) -> None:
        """Writes the row."""
        if self._row:
            row = json.dumps(self._row) + "\n"
            with self._path.open("a") as file:
                file.write(row)
            self._hash.update(row.encode())
            self._row = {}

    @property
    def digest(self) -> str:
        """SHA-256 of all rows that the file should hold by now."""
        return self._hash.hexdigest()


def read_rows(path: epath.Path) -> list[dict[str, Any]]:
    """The rows of a file; none if it is not there. A last row that is not complete is left out.

    Raises:
        ValueError: if another one cannot be read; the message has its number.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        # It is being written, or whoever wrote it was killed.
        logging.warning("%s: row %d is not complete and left out", path, len(lines))
        del lines[-1]
    rows = []
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is None:
            raise ValueError(f"{path} is damaged in row {number}: {line[:60]!r}")
        rows.append(row)
    return rows


def rows_until(path: epath.Path, step: int, digest: str | None) -> bytes:
    """The rows up to the step from which a run is resumed, checked; nothing is written.

    Args:
        path: of the file; without it, there are no rows.
        step: of the checkpoint; 0 without one.
        digest: that `JsonLinesWriter` had there; None for a run from before there were digests.

    Raises:
        ValueError: if these rows are not those that were written; the message says which, and what
            to do.
    """
    if not path.exists():
        if step and digest != hashlib.sha256().hexdigest():
            logging.warning("%s is missing: the rows up to step %d are lost", path, step)
        return b""
    lines = path.read_bytes().splitlines(keepends=True)
    steps = [None if (row := _row(line)) is None else row["step"] for line in lines]
    count = sum(other is not None and other <= step for other in steps)
    kept = b"".join(lines[:count])
    damage = ""
    if bad := [i for i, other in enumerate(steps[:count]) if other is None or other > step]:
        damage = f"in row {bad[0] + 1}: {lines[bad[0]][:60]!r}"
    elif digest is not None and hashlib.sha256(kept).hexdigest() != digest:
        damage = f"rows up to step {step} are missing or are not as they were written"
        if count < len(lines) and steps[count] is None:
            damage += f"; row {count + 1} is {lines[count][:60]!r}"
    if damage:
        raise ValueError(
            f"{path} is damaged ({damage}): put back a copy of it, or rename it to resume without "
            "those rows"
        )
    return kept


def cut(path: epath.Path, kept: bytes) -> None:
    """Leaves only the rows `kept` in a file, where there are others behind them."""
    if path.exists() and (content := path.read_bytes()) != kept:
        number = content.count(b"\n", len(kept))
        logging.info("%s: the %d rows after the checkpoint will be written again", path, number)
        write_bytes(path, kept)


def _row(line: bytes) -> dict[str, Any] | None:
    """A row, or None if it is not a complete row."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_row = isinstance(row, dict) and isinstance(row.get("step"), int) and line.endswith(b"\n")
    return row if is_row else None
