"""A row of a table or figure: a config, what is changed in it, and the number that the paper gives.

Rows are data. `experiments.run` trains them, `experiments.report` sets their results beside the
paper's numbers.
"""

import dataclasses
import importlib
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments.paper import Number
from smh_jax.config import Config, from_config_dict

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One point of a table or figure, to be trained once per seed.

    Attributes:
        name: unique in its experiment; the folder of its runs, shared by tables of a scale.
        series: the line, colour or method that it is a point of.
        group: what it stands beside: the base model, or a target size.
        config: a config file with its arguments, relative to the project's root.
        overrides: values by dotted field name, on top of the config.
        paper: what the paper reports for it; None if nothing.
        seeds: trained unless others are asked for.
        note: which reading of the paper was used, where it leaves a choice.
        resources: what one run takes of a machine, in Ray's names.
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

    def build(self, seed: int) -> Config:
        """The configuration of a run.

        Raises:
            ValueError: for a config file, argument, field or value that is not fit; the message
                names the row.
        """
        try:
            content = load_config(self.config)
            for name, value in {**self.overrides, "seed": seed}.items():
                _set(content, name, value)
            return from_config_dict(content)
        except ValueError as error:
            raise ValueError(f"row {self.name}: {error}") from error

    def command(self, seed: int, workdir: str) -> tuple[str, ...]:
        """The command that trains the row, to be run in the project's root."""
        changes = {**self.overrides, "seed": seed}
        flags = [f"--config.{name}={value}" for name, value in changes.items()]
        return (
            *("python", "-m", "smh_jax.main", f"--config={self.config}", *flags),
            f"--workdir={workdir}",
        )

    def command_line(self, seed: int, workdir: str) -> str:
        """`command` as it is typed."""
        return shlex.join(self.command(seed, workdir))


def load_config(text: str) -> ml_collections.ConfigDict:
    """The config dict of a config file.

    Args:
        text: 'configs/file.py' or 'configs/file.py:arguments', relative to the project's root.

    Raises:
        ValueError: if there is no such file, or if it refuses its arguments.
    """
    path, _, arguments = text.partition(":")
    if not path.endswith(".py") or not (ROOT / path).is_file():
        raise ValueError(f"config={text!r}: the project's root has no config file {path!r}")
    module = importlib.import_module(".".join(pathlib.Path(path).with_suffix("").parts))
    return module.get_config(arguments)


def _set(content: ml_collections.ConfigDict, name: str, value: Any) -> None:
    *path, last = name.split(".")
    try:
        for key in path:
            content = content[key]
        if last not in content:
            raise KeyError(last)
        content[last] = value
    except (KeyError, TypeError, AttributeError) as error:
        message = "is unknown" if isinstance(error, KeyError) else f"is refused: {error}"
        raise ValueError(f"override {name}={value!r} {message}") from error
