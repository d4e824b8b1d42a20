"""The folder of a run: what it says of the run, and what guards it against being mixed up.

config.json     the configuration     manifest.json   the weights, hashed and stored
metrics.jsonl   one row per log step  events.*        the same for TensorBoard
checkpoints/    the state             result.json     the end: accuracy, counts, seconds
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from absl import logging
from clu import metric_writers
from etils import epath

from smh_jax import config as configs
from smh_jax.config import Config
from smh_jax.config.config_files import read_run_config
from smh_jax.config.files import write_json, write_text
from smh_jax.manifest import Manifest


class Workdir:
    """The folder of one run; see the module."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Names the folder, which may be in a bucket; nothing is read or written yet."""
        self.path = epath.Path(path)

    def check(self, config: Config) -> Manifest | None:
        """Whether a run with this configuration may use the folder.

        Returns:
            The manifest of the run that is there and may go on, or None if there is no run.

        Raises:
            ValueError: if another run is there; the message names the fields that differ.
        """
        path = self.path / "config.json"
        if not path.exists():
            folder = self.path / "checkpoints"
            if folder.exists() and any(folder.iterdir()):
                raise ValueError(
                    f"workdir={self.path} holds checkpoints but no config.json: "
                    "nothing says which run they are of; choose another workdir"
                )
            return None
        changed = configs.differences(read_run_config(path), config)
        fixed = {field: v for field, v in changed.items() if field not in configs.CHANGEABLE}
        if fixed:
            listed = "; ".join(
                f"{name}: {old!r} there, {new!r} here" for name, (old, new) in fixed.items()
            )
            raise ValueError(
                f"workdir={self.path} holds a run with another configuration ({listed}); "
                "choose another workdir or the same configuration"
            )
        try:
            return Manifest.from_json((self.path / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise ValueError(
                f"workdir={self.path} has no readable manifest.json: {error}"
            ) from error

    def read(self) -> tuple[Config, Manifest]:
        """The configuration and the manifest of the run that is there.

        Raises:
            ValueError: if there is none.
        """
        path = self.path / "config.json"
        if not path.exists():
            raise ValueError(f"workdir={self.path} holds no run: it has no config.json")
        config = read_run_config(path)
        manifest = self.check(config)
        assert manifest is not None
        return config, manifest

    def describe(self, config: Config, manifest: Manifest) -> None:
        """Writes what the run is; an earlier, different config.json is kept beside it."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / "config.json"
        if path.exists() and configs.differences(read_run_config(path), config):
            _keep(path)
        # The manifest first: a folder with a config.json is complete.
        write_text(self.path / "manifest.json", manifest.to_json() + "\n")
        write_json(path, configs.to_json_dict(config))

    def result(self) -> dict[str, Any] | None:
        """The content of result.json, or None."""
        path = self.path / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes result.json; that of a shorter training is kept beside it."""
        path = self.path / "result.json"
        if path.exists():
            _keep(path)
        write_json(path, result)

    def metric_writer(self, first_step: int) -> metric_writers.MetricWriter:
        """A writer to the log, TensorBoard and metrics.jsonl.

        Args:
            first_step: step from which the run goes on. Rows of later steps, written between the
                last checkpoint and the end of the process, are dropped: they will come again.
        """
        path = self.path / "metrics.jsonl"
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
                metric_writers.LoggingWriter(),
                metric_writers.SummaryWriter(os.fspath(self.path)),
                JsonLinesWriter(path),
            ]
        )


class JsonLinesWriter(metric_writers.MetricWriter):
    """Writes the scalars of each step as one JSON row."""

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

    def close(self) -> None:
        """Writes the last row."""
        self.flush()

    def _unsupported(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("metrics.jsonl holds scalars only")

    write_summaries = write_images = write_videos = write_audios = _unsupported
    write_texts = write_histograms = write_pointcloud = write_hparams = _unsupported


def _step(row: str) -> int | None:
    """The step of a row of metrics.jsonl, or None if the row was cut off."""
    try:
        return json.loads(row)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return None


def _keep(path: epath.Path) -> None:
    """Moves a file out of the way, to the first free name of its kind."""
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(kept)
    logging.info("%s is kept as %s", path.name, kept.name)
