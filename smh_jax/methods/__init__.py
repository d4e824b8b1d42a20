"""Every way of making weights from variables, behind one interface, by name."""

from collections.abc import Mapping
from typing import Any

from smh_jax.config.names import check_known
from smh_jax.manifest import Manifest
from smh_jax.methods.around import innermost, unwrapped
from smh_jax.methods.base import (
    GROUPS,
    Method,
    Variables,
    default_options,
    names,
    of_name,
    squared_norm,
)
from smh_jax.methods.combined import Combined
from smh_jax.methods.dense import Dense
from smh_jax.methods.elastic import Elastic, elastic
from smh_jax.methods.low_rank import LowRank
from smh_jax.methods.multi_hash import MultiHash
from smh_jax.methods.pruned import Pruned, pruned
from smh_jax.methods.rounded import Rounded, rounded
from smh_jax.methods.shared import Added
from smh_jax.methods.smh import SMH
from smh_jax.methods.tensor_ring import TensorRing
from smh_jax.methods.tensor_train import TensorTrain
from smh_jax.methods.tucker import Tucker
from smh_jax.methods.window import Window

# Options that are no more, by the one value that runs and artifacts of before may still give.
_RETIRED = {
    "precision": "default", "max_rank": 0, "channel_factors": 3, "nuclear_norm": 0.0,
    "pool_dtype": "float32",
}  # fmt: skip

__all__ = [
    "GROUPS", "SMH", "Added", "Combined", "Dense", "Elastic", "LowRank", "Method", "MultiHash",
    "Pruned", "Rounded", "TensorRing", "TensorTrain", "Tucker", "Variables", "Window",
    "all_options", "create", "default_options", "elastic", "innermost", "names", "pruned",
    "rounded", "squared_norm", "unwrapped",
]  # fmt: skip


def create(
    name: str, manifest: Manifest, *, target_size: int | None = None, **options: Any
) -> Method:
    """Builds the named method for the model that the manifest describes.

    Args:
        name: one of `names()`.
        manifest: of the base model, with the choice of what is hashed.
        target_size: upper bound on all trainable variables; None for 'dense'.
        **options: of `default_options(name)`.

    Raises:
        ValueError: for an unknown name or option, or a target size that is impossible.
    """
    options = all_options(name, options)
    method = of_name(name)(manifest=manifest, target_size=target_size, **options)
    # The matrix of a window may hold the weights of many models.
    is_alone = name != Window.name
    if is_alone and target_size is not None and target_size >= manifest.num_weights:
        raise ValueError(
            f"target_size={target_size} is not smaller than the model's {manifest.num_weights} "
            "weights; train it with method 'dense'"
        )
    return method


def all_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Today's options of the named method: those that are given, and the others' defaults.

    Raises:
        ValueError: for an unknown option.
    """
    kept = {key: value for key, value in options.items() if (key, value) not in _RETIRED.items()}
    for option in kept:
        check_known(f"option {option!r} of method {name}", option, default_options(name))
    return default_options(name) | kept
