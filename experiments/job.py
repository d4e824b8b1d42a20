"""A row and a seed in a folder of their own: what of it is done, judged by what is on disk."""

import dataclasses
import json
import math
import pathlib
from functools import cached_property
from typing import Any

from absl import logging

from experiments.experiment import Experiment
from experiments.row import Row
from smh_jax import config as configs
from smh_jax.config import Config
from smh_jax.config.config_files import read_run_config

# What a result must hold to be counted, with its types: of a training, and of a conversion.
_TRAINED = {
    "test_accuracy": float, "num_variables": int, "steps": int, "seed": int, "train_seconds": float
}  # fmt: skip
_CONVERTED = {"num_variables": int, "relative_errors": dict}
# Where data and other runs lie changes nothing.
_PLACES = ("data.data_dir", "init_from", "distillation.teacher")


class CorruptResultError(Exception):
    """A result file that is there but cannot be counted; the message names it and says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One run of a row.

    Attributes:
        row, seed: what is trained.
        folder: of all runs of the row's scale.
    """

    row: Row
    seed: int
    folder: pathlib.Path

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.row.name}/seed{self.seed}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the jobs that must be done before this one begins."""
        return tuple(f"{name}/seed{self.seed}" for name in self.row.needs)

    @property
    def workdir(self) -> pathlib.Path:
        """The folder of the run, of this row and seed alone."""
        return pathlib.Path(self.row.workdir(self.seed, str(self.folder)))

    @property
    def result_path(self) -> pathlib.Path:
        """The file that is written when the run is complete."""
        return self.workdir / ("conversion.json" if self.row.convert_from else "result.json")

    def file_alongside(self, ending: str, process_id: int = 0) -> pathlib.Path:
        """A file alongside the folder of the run, for one of its processes.

        Args:
            ending: 'log' (what the process printed) or 'lock'.
            process_id: of the process.
        """
        process = f".{process_id}" if process_id else ""
        return self.workdir.with_name(f"{self.workdir.name}{process}.{ending}")

    @cached_property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.row.read_config(self.seed, str(self.folder))

    def command(self) -> tuple[str, ...]:
        """The command that makes the run."""
        return self.row.command(self.seed, str(self.folder))

    def result(self) -> dict[str, Any] | None:
        """The run's result, or None if it has not ended.

        Raises:
            CorruptResultError: if the file is not the whole result of this very run.
        """
        path = self.result_path
        if not path.exists():
            return None
        try:
            result = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CorruptResultError(f"{path} cannot be read: {error}") from error
        if not isinstance(result, dict):
            raise CorruptResultError(f"{path} is not a JSON object")
        for name, kind in (_CONVERTED if self.row.convert_from else _TRAINED).items():
            value = result.get(name)
            fits = isinstance(value, kind) and not isinstance(value, bool)
            if not fits or (kind is float and not math.isfinite(value)):
                raise CorruptResultError(f"{path}: {name}={value!r} must be a {kind.__name__}")
        if not 0 <= result.get("test_accuracy", 0) <= 1:
            raise CorruptResultError(
                f"{path}: test_accuracy={result['test_accuracy']} must be within 0 and 1"
            )
        self._check_config()
        return result

    def _check_config(self) -> None:
        try:
            trained = read_run_config(self.workdir / "config.json")
        except ValueError as error:
            raise CorruptResultError(str(error)) from error
        changed = configs.differences(trained, self.config)
        listed = ", ".join(
            f"{name}: {there!r} there, {here!r} here"
            for name, (there, here) in changed.items()
            if name not in _PLACES and not (self.row.convert_from and _is_of_training(name))
        )
        if listed:
            raise CorruptResultError(f"{self.result_path} is of another configuration ({listed})")

    def set_aside(self) -> pathlib.Path:
        """Renames the whole folder to the first free name alongside it; the run starts anew."""
        number = 1
        while (kept := self.workdir.with_name(f"{self.workdir.name}.set-aside-{number}")).exists():
            number += 1
        self.workdir.rename(kept)
        return kept


def _is_of_training(field: str) -> bool:
    """Whether a field says how a model is trained, which for a conversion changes nothing."""
    return not field.startswith(("model.", "method.", "data."))


def jobs(experiment: Experiment, workdir: pathlib.Path, seeds: tuple[int, ...] | None) -> list[Job]:
    """All runs of an experiment, seed by seed, so that a first answer is there early.

    Args:
        experiment: of which all rows are taken.
        workdir: of all experiments.
        seeds: of every row in place of the rows' own.
    """
    all_jobs = [
        Job(row, seed, workdir / experiment.folder)
        for row in experiment.rows
        for seed in (row.seeds if seeds is None else seeds)
    ]
    return sorted(all_jobs, key=lambda job: job.seed)


def split(all_jobs: list[Job]) -> tuple[dict[Job, dict[str, Any]], list[Job]]:
    """Results of the jobs that are done, and the jobs that are left.

    A result that cannot be counted is named in the log and set aside with its folder.
    """
    done: dict[Job, dict[str, Any]] = {}
    left = []
    for job in all_jobs:
        try:
            result = job.result()
        except CorruptResultError as error:
            logging.warning("%s; set aside as %s", error, job.set_aside())
            result = None
        if result is None:
            left.append(job)
        else:
            done[job] = result
    return done, left
