"""A row and a seed in a folder of their own: what of it is done, judged by what is on disk."""

import dataclasses
import itertools
import math
import os
import pathlib
from functools import cached_property
from typing import Any

from absl import logging
from etils import epath

from experiments.experiment import Experiment
from experiments.row import ROOT, Row
from smh_jax import config as configs
from smh_jax.config import Config
from smh_jax.config.config_files import read_run_config
from smh_jax.config.files import read_json_with_digest
from smh_jax.training.workdir import with_all_options

# What a result must hold to be counted, with its types: of a training, and of a conversion.
_TRAINED = {
    "test_accuracy": float, "num_variables": int, "steps": int, "seed": int, "train_seconds": float
}  # fmt: skip
_CONVERTED = {"num_variables": int, "relative_errors": dict}
# Where data and other runs lie changes nothing.
_PLACES = ("data.data_dir", "init_from", "frozen_from", "distillation.teacher")


class CorruptResultError(Exception):
    """A result file that is there but cannot be counted; the message names it and says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One run of a row, in the folder of all runs of the row's scale, on disk or in a bucket."""

    row: Row
    seed: int
    folder: epath.Path

    @property
    def name(self) -> str:
        """Of the folder within that of the scale."""
        return f"{self.row.name}/seed{self.seed}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the jobs that must be done before this one begins."""
        return tuple(f"{name}/seed{self.seed}" for name in self.row.needs)

    @property
    def workdir(self) -> epath.Path:
        """The folder of the run, of this row and seed alone."""
        return self.folder / self.name

    @property
    def result_path(self) -> epath.Path:
        """The file that is written when the run is complete."""
        return self.workdir / ("conversion.json" if self.row.convert_from else "result.json")

    def file_alongside(self, ending: str, process_id: int = 0) -> pathlib.Path:
        """The 'log' (what it printed) or 'lock' of a process, alongside the folder of the run.

        Of a run in gs://BUCKET they are in runs/BUCKET of the project, on each machine its own.
        """
        scheme, _, place = os.fspath(self.workdir).rpartition("://")
        workdir = ROOT / "runs" / place if scheme else pathlib.Path(place)
        process = f".{process_id}" if process_id else ""
        return workdir.with_name(f"{workdir.name}{process}.{ending}")

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
        try:
            result = read_json_with_digest(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CorruptResultError(f"{path} cannot be read: {error}") from error
        for name, kind in (_CONVERTED if self.row.convert_from else _TRAINED).items():
            value = result.get(name)
            fits = isinstance(value, kind) and not isinstance(value, bool)
            if not fits or (kind is float and not math.isfinite(value)):
                raise CorruptResultError(f"{path}: {name}={value!r} must be a {kind.__name__}")
        accuracy = result.get("test_accuracy", 0)
        if not 0 <= accuracy <= 1:
            raise CorruptResultError(f"{path}: test_accuracy={accuracy} must be within 0 and 1")
        self._check_config()
        return result

    def _check_config(self) -> None:
        try:
            trained = with_all_options(read_run_config(self.workdir / "config.json"))
        except ValueError as error:
            raise CorruptResultError(str(error)) from error
        changes = configs.differences(trained, with_all_options(self.config))
        # How a model is trained changes nothing of a conversion.
        fields = ("model.", "method.", "data.") if self.row.convert_from else ""
        listed = ", ".join(
            f"{name}: {there!r} there, {here!r} here"
            for name, (there, here) in changes.items()
            if name not in _PLACES and name.startswith(fields)
        )
        if listed:
            raise CorruptResultError(f"{self.result_path} is of another configuration ({listed})")

    def set_aside(self) -> epath.Path:
        """Renames the whole folder to the first free name alongside it; the run starts anew."""
        names = (f"{self.workdir}.set-aside-{number}" for number in itertools.count(1))
        return self.workdir.rename(next(name for name in names if not os.path.exists(name)))


def root(workdir: str) -> epath.Path:
    """The folder of all experiments, on disk in full."""
    return epath.Path(workdir) if in_bucket(workdir) else epath.Path(workdir).resolve()


def in_bucket(workdir: str | os.PathLike[str]) -> bool:
    """Whether a folder is in a bucket."""
    return "://" in os.fspath(workdir)


def jobs(
    experiment: Experiment, workdir: os.PathLike[str], seeds: tuple[int, ...] | None
) -> list[Job]:
    """All runs of an experiment, seed by seed, so that a first answer is there early.

    They are in the workdir of all experiments; `seeds` replaces those of every row.
    """
    folder = epath.Path(workdir) / experiment.folder
    trained = (row for row in experiment.rows if not row.size_of)
    asked = [(row, row.seeds if seeds is None else seeds) for row in trained]
    all_jobs = [Job(row, seed, folder) for row, row_seeds in asked for seed in row_seeds]
    return sorted(all_jobs, key=lambda job: job.seed)


def split(
    all_jobs: list[Job], set_aside: bool = True
) -> tuple[dict[Job, dict[str, Any]], list[Job]]:
    """Results of the jobs that are done, and the jobs that are left.

    A result that cannot be counted is named in the log and set aside with its folder, or left where
    it is if `set_aside` says so.
    """
    done: dict[Job, dict[str, Any]] = {}
    left = []
    for job in all_jobs:
        try:
            result = job.result()
        except CorruptResultError as error:
            place = f"set aside as {job.set_aside()}" if set_aside else "it would be set aside"
            logging.warning("%s; %s", error, place)
            result = None
        if result is None:
            left.append(job)
        else:
            done[job] = result
    return done, left
