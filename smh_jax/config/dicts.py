"""The strict way from typed configurations to ml-collections config dicts and JSON, and back.

Config files build a `Config` and hand out its config dict; the trainer turns the dict, after
command-line overrides, back into a `Config`. The conversion is our own: dacite 1.9 takes True for
an int and names unknown fields without their path, and cattrs 26 turns '3' into 3 unless it is
given a hook for every type, which are as many lines.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

from smh_jax.config.names import check_known
from smh_jax.config.schema import Config


def to_config_dict(config: Config) -> ml_collections.ConfigDict:
    """A locked config dict with every field, whose types command-line overrides must keep."""
    # Through the typed reader, which makes a 60 of a float field 60.0: the type of an override.
    config = from_config_dict(to_json_dict(config))
    return ml_collections.ConfigDict(_to_dict(config)).lock()


def _to_dict(config: Any) -> dict[str, Any]:
    """The fields of a dataclass; of a None, a placeholder says which type an override may have."""
    content = {}
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            value = _to_dict(value)
        elif isinstance(value, Mapping):
            value = {k: config_dict.placeholder(str) if v is None else v for k, v in value.items()}
        elif value is None:
            value = config_dict.placeholder(without_none(hint))
        content[name] = value
    return content


def without_none(hint: Any) -> type:
    """The type of a field that may be None; any other itself."""
    kinds = typing.get_args(hint)
    return next((kind for kind in kinds if kind is not types.NoneType), hint)


def from_config_dict(content: Mapping[str, Any]) -> Config:
    """The typed configuration of a config dict (or of the content of a run's config.json).

    Raises:
        ValueError: for an unknown, missing or ill-typed field; the message names it.
    """
    if isinstance(content, ml_collections.ConfigDict):
        content = content.to_dict()
    return _from_dict(Config, content, prefix="")


def _from_dict(kind: type, content: Any, prefix: str) -> Any:
    if not isinstance(content, Mapping):
        raise ValueError(f"config field {prefix[:-1]}={content!r} must be a dict")
    hints = typing.get_type_hints(kind)
    for name in content:
        check_known(f"config field {prefix}{name}", name, hints)
    values = {}
    for field in dataclasses.fields(kind):
        path = prefix + field.name
        if field.name in content:
            values[field.name] = _convert(hints[field.name], content[field.name], path)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"config field {path} is missing")
    return kind(**values)


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _from_dict(hint, value, prefix=path + ".")
    if typing.get_origin(hint) is types.UnionType:
        if value == "":
            raise ValueError(f"config field {path}='' is empty: leave it out for none")
        return None if value is None else _convert(without_none(hint), value, path)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"config field {path}={value} must be a finite number")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_convert(float, item, path) for item in value)
    if hint is Any:
        return value
    kind = typing.get_origin(hint) or hint
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"config field {path}={value!r} must be of type {kind.__name__}")
    if isinstance(value, Mapping):
        # JSON has no tuples.
        return {
            key: tuple(v) if isinstance(v, list) else _convert(Any, v, f"{path}.{key}")
            for key, v in value.items()
        }
    return value


def to_json_dict(config: Config) -> dict[str, Any]:
    """The content of a run's config.json; `from_config_dict` reads it back."""
    return dataclasses.asdict(config)
