"""A JSON file of analyses, which a later call resumes from, and their table."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping

from absl import logging

from smh_jax.config import Config
from smh_jax.config.files import write_json
from smh_jax.tpu_compiler.analysis import Analysis, analyse

_GIB = 2**30
_HEADER = (
    *("config", "cores", "batch per core", "fits", "memory, GiB", "limit, GiB", "spare, GiB"),
    *("GFLOPs", "GB accessed", "all-reduced MB", "variables MB", "weights MB", "Mcycles"),
    *("samples/s", "compiled in, s"),
)


class Results:
    """Analyses by the config that they are of, on disk after each.

    Attributes:
        rows: by config file with overrides and topology.
    """

    def __init__(self, path: str | os.PathLike[str] | None):
        """Reads what a file holds already; None keeps nothing.

        Raises:
            ValueError: if the file is not one of this class.
        """
        self._path = None if path is None else pathlib.Path(path)
        self.rows: dict[str, Analysis] = {}
        if self._path is not None and self._path.exists():
            try:
                rows = json.loads(self._path.read_text())["rows"]
                self.rows = {name: Analysis(**row) for name, row in rows.items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} is not a file of analyses: {error!r}") from error

    def add(
        self, name: str, config: Config, topology: str, *, memory_only: bool = False
    ) -> Analysis:
        """The analysis of a config, compiled unless it is known of the same program and compiler.

        Args:
            name: of the row.
            config: what to compile.
            topology: see `topology.find`.
            memory_only: see `analyse`; an analysis that is complete serves, too.
        """

        def known(digest: str) -> Analysis | None:
            for row in self.rows.values():
                # What the compiler refused has no program; without code bytes they are a guess.
                complete = row.code_bytes is not None or row.all_reduces is None
                if row.digest == digest and (memory_only or complete):
                    return row
            return None

        row = analyse(config, topology, memory_only=memory_only, known=known)
        self.rows[f"{name} {topology}"] = row
        if self._path is not None:
            content = {key: dataclasses.asdict(row) for key, row in self.rows.items()}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {"rows": content})
        logging.info(
            "%s: %.2f of %.2f GiB, compiled in %.0f s",
            "fits" if row.fits else "does not fit",
            row.memory_bytes / _GIB,
            row.limit_bytes / _GIB,
            row.compile_seconds,
        )
        return row


def table(rows: Mapping[str, Analysis]) -> str:
    """A Markdown table. Cycles and samples per second are the compiler's estimates."""
    lines = [_HEADER, ("---", *["---:"] * (len(_HEADER) - 1))]
    lines += [(name, *cells(row)) for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(row: Analysis) -> Iterable[str]:
    """The columns of a row's numbers; '-' for what is not known."""
    parts = f" in {row.parts} parts" if row.parts > 1 else ""
    at_least = "" if row.code_bytes is not None else "~"
    return (
        str(row.cores),
        f"{row.batch_per_core}{parts}",
        "yes" if row.fits else "no",
        at_least + number(row.memory_bytes / _GIB),
        number(row.limit_bytes / _GIB),
        at_least + number((row.limit_bytes - row.memory_bytes) / _GIB),
        number(row.flops, 1e9),
        number(row.bytes_accessed, 1e9),
        number(row.all_reduced_bytes, 1e6),
        number(4 * row.num_variables / 1e6),
        number(4 * row.num_weights / 1e6),
        number(row.cycles, 1e6),
        number(row.samples_per_second, digits=0),
        number(row.compile_seconds, digits=0),
    )


def number(value: float | None, unit: float = 1.0, digits: int = 2) -> str:
    """A value in a unit; '-' for none."""
    return "-" if value is None else f"{value / unit:,.{digits}f}"
