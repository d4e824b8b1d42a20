"""The base models by name. Each is a Flax module called with `(images, train)`."""

import dataclasses
import difflib
from typing import Any

import flax.linen as nn

from smh_jax.models import cifar_resnet
from smh_jax.models.cifar_resnet import CifarResNet

__all__ = ["CifarResNet", "create", "default_options", "names"]

# Set by whoever builds the model, not by its options.
_NOT_OPTIONS = ("num_classes", "axis_name", "parent", "name")


def names() -> tuple[str, ...]:
    """The names a user can choose; any other `cifar_resnet` of 6n + 2 layers exists, too."""
    return tuple(f"cifar_resnet{depth}" for depth in (8, 20, 32, 44, 56, 110))


def _lookup(name: str) -> tuple[type[nn.Module], dict[str, Any]]:
    fields = cifar_resnet.variant(name)
    if fields is not None:
        return CifarResNet, fields
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4) or names()
    raise ValueError(f"model name={name!r} is unknown; did you mean {', '.join(near)}?")


def default_options(name: str) -> dict[str, Any]:
    """The named model's options with their default values."""
    module, fields = _lookup(name)
    return {
        field.name: field.default
        for field in dataclasses.fields(module)
        if field.name not in (*_NOT_OPTIONS, *fields)
    }


def create(
    name: str, *, num_classes: int, axis_name: str | None = None, **options: Any
) -> nn.Module:
    """Builds the named model.

    Args:
        name: one of `names()`.
        num_classes: number of logits.
        axis_name: mapped axis over which batch norm averages its statistics; None keeps them local.
        **options: see `default_options(name)`.

    Raises:
        ValueError: for an unknown name (the near ones are listed) or option.
    """
    module, fields = _lookup(name)
    known = default_options(name)
    for option in options:
        if option not in known:
            raise ValueError(
                f"model {name} has no option {option!r}; its options are {', '.join(known)}"
            )
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be at least 1")
    return module(num_classes=num_classes, axis_name=axis_name, **fields, **options)
