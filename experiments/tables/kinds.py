"""What is compared: kinds of row, and how a row of one is named and changes the model."""

from collections.abc import Mapping
from typing import Any

# Method and options.
KINDS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "dense": ("dense", {}),
    "smh": ("smh", {}),
    "smh_fixed_scale": ("smh", {"scale": "fixed"}),
    "hash_1": ("multi_hash", {"num_hashes": 1}),
    "hash_2": ("multi_hash", {"num_hashes": 2}),
    "hash_10": ("multi_hash", {"num_hashes": 10}),
    "width_multiplier": ("dense", {}),
    "low_rank": ("low_rank", {}),
    "tucker": ("tucker", {}),
    "tensor_train": ("tensor_train", {}),
    "tensor_ring": ("tensor_ring", {}),
}


def arguments(kind: str, size: int | None, hashed: str) -> str:
    """The string arguments of a config that ask for a kind."""
    method, _ = KINDS[kind]
    target = "" if size is None else f",target_size={size}"
    return f"method={method}{target}" + ("" if method == "dense" else f",hashed={hashed}")


def overrides(kind: str, width: float, resolution: int) -> dict[str, Any]:
    """Config fields that a kind sets, by dotted name; 1.0 and 0 leave the model as it is."""
    _, options = KINDS[kind]
    changes = {f"method.options.{option}": value for option, value in options.items()}
    if width != 1.0:
        changes["model.options.width_multiplier"] = width
    if resolution:
        changes["model.options.input_resolution"] = resolution
    return changes


def row_name(
    model: str, kind: str, size: int | None, hashed: str, width: float, resolution: int
) -> str:
    """Tells what is trained, the same in every table."""
    parts = [model, kind if hashed == "all" else f"{kind}_{hashed}"]
    parts += [str(size)] if size is not None else []
    parts += [f"width{width:g}"] if width != 1.0 else []
    parts += [f"resolution{resolution}"] if resolution else []
    return "-".join(parts)
