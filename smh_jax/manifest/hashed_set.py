"""The choice of what is hashed, and the reasons for which a tensor is stored instead."""

import dataclasses
import re
from collections.abc import Sequence

import jax.numpy as jnp

from smh_jax.manifest.tensor import Tensor

# The paper's choices. Anything else given as `hashed` is a regular expression.
PRESETS = {
    "all": "every tensor but batch norm (the paper's default, section 3)",
    "conv": "the tensors of convolutions only (section 4.7)",
    "kernels": "tensors of two or more dimensions; biases are stored",
}
# Where the mean of a tensor's initial values is further from 0 than this many of its standard
# deviations, no zero-mean pool can start it: it is stored.
_MAX_RELATIVE_MEAN = 0.1


def decide(tensors: Sequence[Tensor], choice: str) -> tuple[Tensor, ...]:
    """The tensors, each marked as hashed, or as stored with the reason.

    Raises:
        ValueError: if the choice, a preset or a regular expression, is not a valid one or matches
            no tensor.
    """
    chosen = {tensor.path for tensor in _chosen(tensors, choice)}
    reasons = [_reason(tensor, tensor.path in chosen) for tensor in tensors]
    pairs = zip(tensors, reasons, strict=True)
    return tuple(dataclasses.replace(t, hashed=not reason, reason=reason) for t, reason in pairs)


def _chosen(tensors: Sequence[Tensor], choice: str) -> list[Tensor]:
    candidates = [tensor for tensor in tensors if tensor.layer != "batch_norm"]
    if choice == "all":
        chosen = candidates
    elif choice == "conv":
        chosen = [tensor for tensor in candidates if tensor.layer == "conv"]
    elif choice == "kernels":
        chosen = [tensor for tensor in candidates if len(tensor.shape) >= 2]
    else:
        try:
            pattern = re.compile(choice)
        except re.error as error:
            raise ValueError(
                f"hashed={choice!r} is neither one of {', '.join(PRESETS)} "
                f"nor a regular expression: {error}"
            ) from error
        chosen = [tensor for tensor in candidates if pattern.search(tensor.name)]
    if not chosen:
        some = ", ".join(tensor.name for tensor in candidates[:4])
        raise ValueError(
            f"hashed={choice!r} matches no tensor that can be hashed; "
            f"the presets are {', '.join(PRESETS)}, and names look like {some}"
        )
    return chosen


def _reason(tensor: Tensor, is_chosen: bool) -> str:
    """Why a tensor is stored; '' if it is hashed."""
    initial = tensor.initial
    if tensor.layer == "batch_norm":
        return "batch norm"
    if not is_chosen:
        return "not in the hashed set"
    if tensor.size == 0:
        return "it has no elements"
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        return f"{tensor.dtype} is not a real floating-point dtype"
    if abs(initial.mean) > _MAX_RELATIVE_MEAN * initial.stddev:
        return "initial values do not average to 0"
    if initial.distribution == "fixed":
        return "initial values are fixed"
    return ""
