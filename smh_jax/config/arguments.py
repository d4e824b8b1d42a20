"""Strict, typed arguments in one string: of config files, and of the parts of combined methods."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from smh_jax.config.names import check_known


def parse(text: str, **defaults: Any) -> ml_collections.ConfigDict:
    """Parses a text such as 'depth=32,method=smh'.

    Args:
        text: 'name=value' pairs with commas between them; '' leaves all at their defaults.
        **defaults: every allowed name with its default value, whose type the value must have. A
            type in place of a value means that the default is None.

    Raises:
        ValueError: for an unknown name or a value of the wrong type.
    """
    unset = {n: None if isinstance(value, type) else value for n, value in defaults.items()}
    return ml_collections.ConfigDict(unset | given(text, defaults))


def given(text: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a text gives; for `defaults` and errors see `parse`."""
    arguments = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, equals, value = (part.strip() for part in pair.partition("="))
        check_known(f"argument {name!r}", name, defaults)
        if not equals:
            raise ValueError(f"argument {name!r} has no value; write {name}=...")
        default = defaults[name]
        kind = default if isinstance(default, type) else type(default)
        arguments[name] = _parse(name, value, kind)
    return arguments


def _parse(name: str, value: str, kind: type) -> Any:
    if kind is bool:
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
    elif value:
        try:
            return kind(value)
        except ValueError:
            pass
    raise ValueError(f"argument {name}={value!r} must be of type {kind.__name__}")
