"""What is compared: kinds of row, and how a row of one is named and changes the model."""

from collections.abc import Mapping
from typing import Any

from experiments.row import Row

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
        model: the base model's name.
        kind: of `KINDS`.
        size: the target; for a dense model None.
        hashed: which weights.
        width, resolution: of the model's options, for the narrower baselines; 1.0 and 0 leave the
            model as it is.
        name: of the row; '' is one that tells what is trained, the same in every table.
        series, group: of the row; the kind and the base model where they are not given.
        overrides: config fields by dotted name, besides those of the kind.
        **fields: others of `Row`.
    """
    method, options = KINDS[kind]
    arguments = f"method={method}"
    parts = [model, kind if hashed == "all" else f"{kind}_{hashed}"]
    changes = {**(overrides or {}), **{f"method.options.{k}": v for k, v in options.items()}}
    if size is not None:
        arguments += f",target_size={size}"
        parts.append(str(size))
    if method != "dense":
        arguments += f",hashed={hashed}"
    if width != 1.0:
        changes["model.options.width_multiplier"] = width
        parts.append(f"width{width:g}")
    if resolution:
        changes["model.options.input_resolution"] = resolution
        parts.append(f"resolution{resolution}")
    return Row(
        name=name or "-".join(parts),
        series=series or kind,
        group=group or model,
        config=f"{config},{arguments}",
        overrides=changes,
        **fields,
    )
