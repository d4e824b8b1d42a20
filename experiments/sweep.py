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

from experiments.experiment import Experiment, View
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
    seeds = content.get("seeds", [0])
    are_numbers = all(type(seed) is int and seed >= 0 for seed in seeds)
    if not seeds or not are_numbers or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"sweep {path}: seeds={seeds!r} must be different whole numbers of at least 0"
        )
    fields["seeds"] = tuple(seeds)
    for setting in content.get("list", []):
        if not isinstance(setting, dict) or not setting:
            raise ValueError(f"sweep {path}: a list entry {setting!r} must be fields with values")
        settings.append(_flatten(setting))
    if not settings:
        raise ValueError(f"sweep {path}: neither grid nor list names any value")
    varying = _varying(settings)
    names = {name: _plain(name, varying) for name in varying}
    axis = _axis(varying, settings)
    rows = []
    for setting in settings:
        # Told apart by what varies alone.
        others = [f"{names[n]}={setting[n]}" for n in varying if n != axis and n in setting]
        rows.append(
            Row(
                name=_name(setting),
                series=", ".join(others) if axis else "",
                group=str(setting[axis]) if axis else ", ".join(others),
                config=_config(content["config"], setting),
                overrides={k: v for k, v in setting.items() if not k.startswith(_ARGUMENTS)},
                **fields,
            )
        )
    name = pathlib.Path(path).stem
    title = content.get("title", name)
    question = content.get("question", f"What do {', '.join(names.values())} change?")
    view = View("dots", rows=tuple(row.name for row in rows), axis=names.get(axis, "setting"))
    return Experiment(name, "sweep", title, question, tuple(rows), views=(view,))


def _varying(settings: list[dict[str, Any]]) -> list[str]:
    """The fields that not all settings have at one value; of a single setting its first."""
    names = dict.fromkeys(name for setting in settings for name in setting)
    values = {name: {str(setting.get(name)) for setting in settings} for name in names}
    return [name for name in names if len(values[name]) > 1] or list(names)[:1]


def _axis(varying: list[str], settings: list[dict[str, Any]]) -> str:
    """What results are drawn along: the first field of numbers, else the first.

    '' where settings have different fields, which are a list then.
    """
    if not all(name in setting for name in varying for setting in settings):
        return ""
    types = {name: {type(setting[name]) for setting in settings} for name in varying}
    return next((name for name in varying if types[name] <= {int, float}), varying[0])


def _plain(name: str, names: list[str]) -> str:
    """The last part of a field's name, in words; all of it where another field ends alike."""
    last = name.rpartition(".")[2]
    alike = [other for other in names if other.rpartition(".")[2] == last]
    return last.replace("_", " ") if len(alike) == 1 else name.removeprefix(_ARGUMENTS)


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
