"""What is compared: kinds of row, and how a row of one is named and changes the model."""

from collections.abc import Mapping
from typing import Any

from experiments.row import Row

# Method and options.
KINDS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "dense": ("dense", {}),
    "smh": ("smh", {}),
    "smh_fixed_scale": ("smh", {"scale": "fixed"}),
    **{f"hash_{n}": ("multi_hash", {"num_hashes": n}) for n in (1, 2, 10)},
    "width_multiplier": ("dense", {}),
    **{method: (method, {}) for method in ("low_rank", "tucker", "tensor_train", "tensor_ring")},
}
_LABELS = {
    "dense": "uncompressed",
    "smh": "SMH",
    "smh_like_for_like": "SMH, convolutions only, Kronecker",
    "smh_fixed_scale": "SMH, fixed scale",
    "hash_1": "1 hash",
    "hash_2": "2 hashes",
    "hash_10": "10 hashes",
    "width_and_resolution": "width multiplier + resolution",
    "tucker": "Tucker",
}


def label(series: str) -> str:
    """The name of a series in tables and pictures."""
    return _LABELS.get(series, series.replace("_", " ") if series in KINDS else series)


def row(
    config: str,
    model: str,
    kind: str,
    *,
    size: int | None = None,
    hashed: str = "all",
    width: float = 1.0,
    resolution: int = 0,
    name: str = "",
    series: str = "",
    group: str = "",
    overrides: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Row:
    """A row of a kind.

    Args:
        config: a config file with the arguments that choose the model.
        model: the base model, in names.
        kind: of `KINDS`.
        size: the target; for a dense model None.
        width, resolution: of the model's options, for the narrower baselines; 1.0 and 0 leave the
            model as it is.
        name: of the row; '' is one that tells what is trained, the same in every table.
        series, group: of the row; the kind and the base model where they are not given.
        overrides: besides those of the kind.
        **fields: others of `Row`.
    """
    method, options = KINDS[kind]
    config += f",method={method}"
    parts = [model, kind if hashed == "all" else f"{kind}_{hashed}"]
    changes = {**(overrides or {}), **{f"method.options.{k}": v for k, v in options.items()}}
    if size is not None:
        config += f",target_size={size}"
        parts.append(str(size))
    if method != "dense":
        config += f",hashed={hashed}"
    if width != 1.0:
        changes["model.options.width_multiplier"] = width
        parts.append(f"width{width:g}")
    if resolution:
        changes["model.options.input_resolution"] = resolution
        parts.append(f"resolution{resolution}")
    name = name or "-".join(parts)
    return Row(name, series or kind, group or model, config, overrides=changes, **fields)
