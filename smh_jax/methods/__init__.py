"""Every way of making weights from variables, behind one interface, by name."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from smh_jax.manifest import Manifest
from smh_jax.methods.base import GROUPS, Method, Variables
from smh_jax.methods.combined import Combined
from smh_jax.methods.dense import Dense
from smh_jax.methods.low_rank import LowRank
from smh_jax.methods.multi_hash import MultiHash
from smh_jax.methods.smh import SMH
from smh_jax.methods.tensor_ring import TensorRing
from smh_jax.methods.tensor_train import TensorTrain
from smh_jax.methods.tucker import Tucker

__all__ = ["GROUPS", "Method", "Variables", "build", "create", "default_options", "names"]

_METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        *(Dense, SMH, MultiHash, Combined),
        *(LowRank, Tucker, TensorTrain, TensorRing),
    )
}


def names() -> tuple[str, ...]:
    """The names a user can choose."""
    return tuple(_METHODS)


def _lookup(name: str) -> type[Method]:
    if name not in _METHODS:
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4) or names()
        raise ValueError(f"method name={name!r} is unknown; did you mean {', '.join(near)}?")
    return _METHODS[name]


def default_options(name: str) -> dict[str, Any]:
    """The named method's options with their default values."""
    return {
        field.name: field.default
        for field in dataclasses.fields(_lookup(name))
        if field.name not in ("manifest", "target_size")
    }


def create(
    name: str, manifest: Manifest, *, target_size: int | None = None, **options: Any
) -> Method:
    """Builds the named method for the model that the manifest describes.

    Args:
        name: one of `names()`.
        manifest: of the base model, with the choice of what is hashed.
        target_size: upper bound on all trainable variables; None for 'dense'.
        **options: see `default_options(name)`.

    Raises:
        ValueError: for an unknown name (the near ones are listed) or option, or for a target size
            that is impossible; the message says which ones are possible.
    """
    method = build(name, manifest, target_size, options)
    if target_size is not None and target_size >= manifest.num_weights:
        raise ValueError(
            f"target_size={target_size} is not smaller than the model's {manifest.num_weights} "
            "weights; train it with method 'dense'"
        )
    return method


def build(
    name: str, manifest: Manifest, target_size: int | None, options: Mapping[str, Any]
) -> Method:
    """As `create`, but for any target size that is large enough."""
    method = _lookup(name)
    known = default_options(name)
    for option in options:
        if option not in known:
            raise ValueError(
                f"method {name} has no option {option!r}; "
                f"its options are {', '.join(known) or 'none'}"
            )
    return method(manifest=manifest, target_size=target_size, **options)
