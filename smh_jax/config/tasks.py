"""Several tasks of one run, from the text that names them.

    fashion; inverted: data.transform=inverted; digits: data.name=digits, weight=0.5

Of each task the text says in what it differs from the run's own `task`, `model` and `data`, and its
weight in the loss.
"""

import dataclasses
import re
import typing
from typing import Any

from smh_jax.config import arguments
from smh_jax.config.dicts import without_none
from smh_jax.config.schema import Config, DataConfig

# Of all tasks together.
_COMMON = ("batch_size",)


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """One of several tasks.

    Attributes:
        config: the run's, as if this task were alone.
        weight: of its mean loss in the sum of all.
    """

    config: Config
    weight: float


def read(config: Config) -> dict[str, TaskConfig]:
    """The tasks of a run by name, in order.

    Raises:
        ValueError: for a name that is none or there twice, an unknown field, or a value that does
            not fit.
    """
    tasks: dict[str, TaskConfig] = {}
    for text in config.tasks.split(";"):
        name, _, fields = (part.strip() for part in text.partition(":"))
        if not re.fullmatch(r"\w+", name) or name in tasks:
            raise ValueError(
                f"tasks={config.tasks!r}: {text!r} must begin with a name of letters, digits and _ "
                "that no other task has, as in 'digits: data.name=digits; ...'"
            )
        try:
            tasks[name] = _read(config, fields)
        except ValueError as error:
            raise ValueError(f"tasks: {name}: {error}") from error
    return tasks


def _read(config: Config, text: str) -> TaskConfig:
    given = arguments.given(text, _defaults(config))
    weight, task = given.pop("weight", 1.0), given.pop("task", config.task)
    if not weight > 0:
        raise ValueError(f"weight={weight} must be above 0")
    name, options = given.pop("model.name", config.model.name), dict(config.model.options)
    if name != config.model.name:
        # Those of another model are its own defaults.
        options = {}
    data = {}
    for field, value in given.items():
        group, _, field = field.partition(".")
        if group == "data":
            data[field] = value
        else:
            options[field.removeprefix("options.")] = value
    own = dataclasses.replace(
        config,
        tasks="",
        pool_from=None,
        task=task,
        model=dataclasses.replace(config.model, name=name, options=options),
        data=dataclasses.replace(config.data, **data),
    )
    return TaskConfig(own, weight)


def _defaults(config: Config) -> dict[str, Any]:
    """All fields that a task may have, with their types."""
    hints = typing.get_type_hints(DataConfig)
    data = {
        f"data.{name}": without_none(hint) for name, hint in hints.items() if name not in _COMMON
    }
    options = {
        f"model.options.{name}": str if value is None else type(value)
        for name, value in config.model.options.items()
    }
    return {"weight": float, "task": str, "model.name": str, **data, **options}
