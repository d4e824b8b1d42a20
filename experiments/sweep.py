"""An ablation of one's own: a TOML file with a config and values of its fields.

    config = "configs/digits.py:target_size=27000"
    seeds = [0, 1]
    [grid]
    method.options.blocks = [1, 4, 16]
    optimizer.learning_rate = [0.2, 0.4]

`[grid]` takes every combination of the values; `[[list]]`, any number of times, names single
settings. A name such as `arguments.method` is an argument of the config file, for what decides
which fields there are. Optional: `title`, `question`, `resources`.
"""

import itertools
import pathlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from experiments.experiment import Experiment
from experiments.row import Row
from smh_jax.config.names import check_known

_ARGUMENTS = "arguments."
_KEYS = {
    "config": str, "seeds": list, "grid": dict, "list": list, "title": str, "question": str,
    "resources": dict,
}  # fmt: skip


def load(path: str) -> Experiment:
    """Reads an ablation file.

    Raises:
        ValueError: if it cannot be read or says something else than what this module's docstring
            shows.
    """
    try:
        content = tomllib.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"sweep {path}: {error}") from error
    for key, value in content.items():
        check_known(f"sweep {path}: {key!r}", key, _KEYS)
        if not isinstance(value, _KEYS[key]):
            raise ValueError(f"sweep {path}: {key}={value!r} must be a {_KEYS[key].__name__}")
    if "config" not in content:
        raise ValueError(f"sweep {path}: config is missing")
    axes = _flatten(content.get("grid", {}))
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"sweep {path}: grid axis {name}={values!r} must be a list of values")
    combinations = itertools.product(*axes.values()) if axes else ()
    settings = [dict(zip(axes, values, strict=True)) for values in combinations]
    fields = {key: content[key] for key in ("resources",) if key in content}
    fields["seeds"] = tuple(content.get("seeds", [0]))
    for setting in content.get("list", []):
        if not isinstance(setting, dict) or not setting:
            raise ValueError(f"sweep {path}: a list entry {setting!r} must be fields with values")
        settings.append(_flatten(setting))
    if not settings:
        raise ValueError(f"sweep {path}: neither grid nor list names any value")
    rows = tuple(
        Row(
            name=_name(setting),
            series=_name(dict(list(setting.items())[1:])) or "all",
            group=str(next(iter(setting.values()))),
            config=_config(content["config"], setting),
            overrides={k: v for k, v in setting.items() if not k.startswith(_ARGUMENTS)},
            **fields,
        )
        for setting in settings
    )
    name = pathlib.Path(path).stem
    title = content.get("title", name)
    question = content.get("question", f"What do {', '.join(settings[0])} change?")
    return Experiment(name, "sweep", title, question, rows, plot="dots")


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """TOML reads a dotted name as tables within tables."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = prefix + key
        flat |= _flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _config(config: str, setting: Mapping[str, Any]) -> str:
    """The config with a setting's arguments behind its own, which they replace."""
    path, _, own = config.partition(":")
    asked = [
        f"{name.removeprefix(_ARGUMENTS)}={value}"
        for name, value in setting.items()
        if name.startswith(_ARGUMENTS)
    ]
    arguments = ",".join(filter(None, (own, *asked)))
    return f"{path}:{arguments}" if arguments else path


def _name(setting: Mapping[str, Any]) -> str:
    """A folder name: the last part of each field's name, and its value."""
    text = ",".join(f"{name.rpartition('.')[2]}={value}" for name, value in setting.items())
    return re.sub(r"[^\w.,=+-]", "_", text)
