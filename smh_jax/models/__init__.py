"""The base models by name. Each is a Flax module called with `(images or tokens, train)`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.config.names import check_choice, check_known
from smh_jax.models import cifar_resnet, efficientnet, gpt2, mobilenet_v2, mobilenet_v3, resnet, vit
from smh_jax.models.base import Variant
from smh_jax.models.multiply_adds import count_multiply_adds, matching_resolution

__all__ = [
    "count_multiply_adds",
    "create",
    "default_options",
    "default_resolution",
    "matching_resolution",
    "names",
    "published_input",
    "takes",
]

_VARIANTS = {
    **cifar_resnet.VARIANTS,
    **resnet.VARIANTS,
    **efficientnet.VARIANTS,
    **mobilenet_v2.VARIANTS,
    **mobilenet_v3.VARIANTS,
    **vit.VARIANTS,
    **gpt2.VARIANTS,
}
_DTYPES = ("float32", "bfloat16")
# Set by whoever builds the model, not by its options.
_NOT_OPTIONS = ("num_classes", "axis_name", "axis_groups", "parent", "name")


def names() -> tuple[str, ...]:
    """The names a user can choose; any other `cifar_resnet` of 6n + 2 layers exists, too."""
    return tuple(_VARIANTS)


def _lookup(name: str) -> Variant:
    variant = _VARIANTS.get(name) or cifar_resnet.variant(name)
    if variant is None:
        check_known(f"model name={name!r}", name, names())
    return variant


def default_options(name: str) -> dict[str, Any]:
    """The named model's options with their default values."""
    variant = _lookup(name)
    return {
        field.name: variant.defaults.get(field.name, field.default)
        for field in dataclasses.fields(variant.module)
        if field.name not in (*_NOT_OPTIONS, *variant.fixed)
    }


def default_resolution(name: str) -> int:
    """Side in pixels of the images for which the named model was published; of texts, tokens."""
    return _lookup(name).resolution


def takes(name: str) -> str:
    """What the named model takes, 'images' or 'tokens'."""
    return _lookup(name).module.takes


def published_input(name: str, resolution: int | None = None) -> jax.ShapeDtypeStruct:
    """Shape and dtype of one input of the named model, in color, the batch dimension included.

    Args:
        name: of the model.
        resolution: side of its images, or number of tokens; None for what it was published for.
    """
    side = resolution or default_resolution(name)
    if takes(name) == "tokens":
        return jax.ShapeDtypeStruct((1, side), jnp.int32)
    return jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)


def create(
    name: str,
    *,
    num_classes: int,
    axis_name: str | None = None,
    axis_groups: Sequence[Sequence[int]] | None = None,
    **options: Any,
) -> nn.Module:
    """Builds the named model.

    Args:
        name: one of `names()`.
        num_classes: number of logits.
        axis_name: mapped axis over which batch norm averages its statistics; None keeps them local.
        axis_groups: replicas along it in groups that average among themselves; None for all.
        **options: see `default_options(name)`.

    Raises:
        ValueError: for an unknown name (the near ones are listed), option or dtype, or a rate that
            is not a probability below 1.
    """
    variant = _lookup(name)
    known = default_options(name)
    for option in options:
        if option not in known:
            raise ValueError(
                f"model {name} has no option {option!r}; its options are {', '.join(known)}"
            )
    options = known | options
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be at least 1")
    check_choice("dtype", options["dtype"], tuple(_DTYPES))
    for option in ("dropout_rate", "stochastic_depth_rate"):
        if not 0 <= options.get(option, 0) < 1:
            raise ValueError(f"{option}={options[option]} must be at least 0 and below 1")
    return variant.module(
        num_classes=num_classes,
        axis_name=axis_name,
        axis_groups=axis_groups,
        **variant.fixed,
        **options,
    )
