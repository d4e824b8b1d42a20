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

# What a result must hold to be counted, with its types.
_FIELDS = {
    "test_accuracy": float, "num_variables": int, "steps": int, "seed": int, "train_seconds": float
}  # fmt: skip


class CorruptResultError(Exception):
    """A result file that is there but cannot be counted; the message names it and says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One run of a row.

    Attributes:
        row, seed: what is trained.
        workdir: folder of the run, of this row and seed alone.
    """

    row: Row
    seed: int
    workdir: pathlib.Path

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.row.name}/seed{self.seed}"

    @property
    def result_path(self) -> pathlib.Path:
        """Of the trainer's result."""
        return self.workdir / "result.json"

    @cached_property
    def config(self) -> Config:
        """Of the run."""
        return self.row.build(self.seed)

    def command(self) -> tuple[str, ...]:
        """That trains it."""
        return self.row.command(self.seed, str(self.workdir))

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
        for name, kind in _FIELDS.items():
            value = result.get(name)
            if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
                raise CorruptResultError(f"{path}: {name}={value!r} must be a {kind.__name__}")
        if not 0 <= result["test_accuracy"] <= 1:
            raise CorruptResultError(
                f"{path}: test_accuracy={result['test_accuracy']} must be within 0 and 1"
            )
        self._check_config()
        return result

    def _check_config(self) -> None:
        path = self.workdir / "config.json"
        try:
            there = configs.from_config_dict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise CorruptResultError(f"{path} cannot be read: {error}") from error
        changed = configs.differences(there, self.config)
        # Where the data lies changes nothing.
        changed.pop("data.data_dir", None)
        if changed:
            listed = ", ".join(
                f"{name}: {a!r} there, {b!r} here" for name, (a, b) in changed.items()
            )
            raise CorruptResultError(f"{self.result_path} is of another configuration ({listed})")

    def set_aside(self) -> pathlib.Path:
        """Renames the whole folder to the first free name beside it; the run starts anew."""
        number = 1
        while (kept := self.workdir.with_name(f"{self.workdir.name}.set-aside-{number}")).exists():
            number += 1
        self.workdir.rename(kept)
        return kept


def jobs(experiment: Experiment, workdir: pathlib.Path, seeds: tuple[int, ...] | None) -> list[Job]:
    """All runs of an experiment, seed by seed, so that a first answer is there early.

    Args:
        experiment: of which all rows are taken.
        workdir: of all experiments.
        seeds: of every row in place of the rows' own.
    """
    folder = workdir / experiment.folder
    found = [
        Job(row, seed, folder / row.name / f"seed{seed}")
        for row in experiment.rows
        for seed in (row.seeds if seeds is None else seeds)
    ]
    return sorted(found, key=lambda job: job.seed)


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
