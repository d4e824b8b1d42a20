"""A row of a table or figure: a config, what is changed in it, and the number that the paper gives.

Rows are data. `experiments.run` trains them, `experiments.report` sets their results alongside the
paper's numbers.
"""

import dataclasses
import math
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from experiments.paper import Number
from smh_jax.config import Config
from smh_jax.config.config_files import read_config

ROOT = pathlib.Path(__file__).parents[1]
# Before the name of a row, as the value of an override: the folder of that row's run.
RUN_OF = "@"


@dataclasses.dataclass(frozen=True)
class TpuSlice:
    """A TPU slice of several hosts, each of which runs one process of the run.

    Of a version such as 'v3'; the topology is the chips in each direction, such as '4x4'.
    """

    version: str
    topology: str

    @property
    def num_chips(self) -> int:
        """Of all its hosts."""
        return math.prod(map(int, self.topology.split("x")))


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One point of a table or figure, to be trained once per seed.

    Attributes:
        name: unique in its experiment; the folder of its runs, shared by tables of a scale.
        series: the line, color or method that it is a point of.
        group: what it is compared within: the base model, or a target size.
        config: a config file with its arguments, relative to the project's root.
        overrides: values by dotted field name, on top of the config. '@name' is the folder of
            the run of another row, with the same seed.
        paper: what the paper reports for it; None if nothing.
        seeds: trained unless others are asked for.
        note: which reading of the paper was used, where it leaves a choice.
        resources: what one run takes of a machine, in Ray's names.
        tpu_slice: on which it runs in place of one machine.
        convert_from: name of a row whose trained model is converted to this row's method, in
            place of training; the result is a run at step 0.
        size_of: name of a row whose elastic run this row is a size of, in place of training, or
            whose run of several tasks it is a task of; its runs are what that run's say of the
            size `elastic_size` or of `task`.
        elastic_size, task: as the run's result names it.
        precisions: of the pools, at which the trained model is exported and measured, too.
    """

    name: str
    series: str
    group: str
    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paper: Number | None = None
    seeds: tuple[int, ...] = (0,)
    note: str = ""
    resources: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"CPU": 1.0})
    tpu_slice: TpuSlice | None = None
    convert_from: str = ""
    size_of: str = ""
    elastic_size: int = 0
    task: str = ""
    precisions: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the rows whose runs must be complete before this one begins."""
        others = map(_row_of, self.overrides.values())
        return tuple(filter(None, (self.convert_from, self.size_of, *others)))

    def read_config(self, seed: int, folder: str = "runs") -> Config:
        """The configuration of a run in the folder of the scale, read as the command reads it.

        Raises:
            ValueError: for a config file, argument, field or value that is not fit; the message
                names the row.
        """
        try:
            return read_config(shlex.join((self.config, *self._changes(seed, folder))))
        except ValueError as error:
            raise ValueError(f"row {self.name}: {error}") from error

    def command(self, seed: int, folder: str) -> tuple[str, ...]:
        """The command that trains or converts the row, to be run in the project's root."""
        workdir = f"{folder}/{self.name}/seed{seed}"
        if self.convert_from:
            target_size = self.read_config(seed, folder).method.target_size
            flags = (
                f"--workdir={folder}/{self.convert_from}/seed{seed}",
                f"--target_size={target_size}",
                f"--output={workdir}",
            )
            return ("python", "-m", "smh_jax.convert", *flags)
        flags = (f"--config={self.config}", *self._changes(seed, folder), f"--workdir={workdir}")
        return ("python", "-m", "smh_jax.main", *flags)

    def _changes(self, seed: int, folder: str) -> list[str]:
        """The overrides as flags."""
        changes = {
            name: f"{folder}/{_row_of(value)}/seed{seed}" if _row_of(value) else value
            for name, value in self.overrides.items()
        }
        return [f"--config.{name}={value}" for name, value in {**changes, "seed": seed}.items()]


def _row_of(value: Any) -> str:
    """Name of the row to whose run an override refers; '' for any other value."""
    text = str(value)
    return text.removeprefix(RUN_OF) if text.startswith(RUN_OF) else ""
