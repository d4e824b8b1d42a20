"""A row of a table or figure: a config, what is changed in it, and the number that the paper gives.

Rows are data. `experiments.run` trains them, `experiments.report` sets their results alongside the
paper's numbers.
"""

import dataclasses
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

    Attributes:
        version: such as 'v3'.
        topology: chips in each direction, such as '4x4'.
    """

    version: str
    topology: str


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
    precisions: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the rows whose runs must be complete before this one begins."""
        names = [value[len(RUN_OF) :] for value in self.overrides.values() if _is_reference(value)]
        return tuple(filter(None, (self.convert_from, *names)))

    def workdir(self, seed: int, folder: str) -> str:
        """The folder of a run, below that of all runs of a scale."""
        return f"{folder}/{self.name}/seed{seed}"

    def read_config(self, seed: int, folder: str = "runs") -> Config:
        """The configuration of a run, read as the command reads it.

        Args:
            seed: of the run.
            folder: of all runs of the scale, among which are those that the row needs.

        Raises:
            ValueError: for a config file, argument, field or value that is not fit; the message
                names the row.
        """
        try:
            return read_config(shlex.join(self._config_and_overrides(seed, folder)))
        except ValueError as error:
            raise ValueError(f"row {self.name}: {error}") from error

    def command(self, seed: int, folder: str) -> tuple[str, ...]:
        """The command that trains or converts the row, to be run in the project's root."""
        workdir = self.workdir(seed, folder)
        if self.convert_from:
            method = self.read_config(seed, folder).method
            source = f"{folder}/{self.convert_from}/seed{seed}"
            return (
                *("python", "-m", "smh_jax.convert", f"--workdir={source}"),
                *(f"--target_size={method.target_size}", f"--output={workdir}"),
            )
        config, *overrides = self._config_and_overrides(seed, folder)
        return (
            *("python", "-m", "smh_jax.main", f"--config={config}", *overrides),
            f"--workdir={workdir}",
        )

    def _config_and_overrides(self, seed: int, folder: str) -> tuple[str, ...]:
        changes = {
            name: f"{folder}/{value[len(RUN_OF) :]}/seed{seed}" if _is_reference(value) else value
            for name, value in self.overrides.items()
        }
        changes["seed"] = seed
        return (self.config, *(f"--config.{name}={value}" for name, value in changes.items()))


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(RUN_OF)
