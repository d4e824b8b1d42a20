"""Rows of the paper's scale on ImageNet: the recipes of `configs/imagenet_*.py`."""

from collections.abc import Mapping
from typing import Any

from experiments.paper import Number
from experiments.row import Row

# The topology of the paper's Table 1, v3 4x4: 16 chips of two cores, on 4 hosts.
RESOURCES = {"CPU": 1.0, "TPU": 16.0}

# Method and options.
KINDS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "dense": ("dense", {}),
    "smh": ("smh", {}),
    "smh_fixed_scale": ("smh", {"scale": "fixed"}),
    "hash_1": ("multi_hash", {"num_hashes": 1}),
    "hash_2": ("multi_hash", {"num_hashes": 2}),
    "hash_10": ("multi_hash", {"num_hashes": 10}),
    "width_multiplier": ("dense", {}),
}


def row(
    base_model: str,
    kind: str,
    *,
    size: int | None = None,
    series: str | None = None,
    group: str | None = None,
    hashed: str = "all",
    width: float = 1.0,
    resolution: int = 0,
    paper: Number | None = None,
    note: str = "",
) -> Row:
    """A row of the paper's scale; its name tells what is trained, the same in every table.

    Args:
        base_model: of `smh_jax.models.names()`.
        kind: of `KINDS`.
        size: the target; for a dense model None.
        series, group: of the row; the kind and the base model where they are not given.
        hashed: which weights.
        width, resolution: of the model's options, for the narrower baselines.
        paper: what the paper reports.
        note: see `Row`.
    """
    method, options = KINDS[kind]
    family, _, variant = base_model.partition("_") if "_" in base_model else ("resnet", "", "")
    variant = variant or base_model.removeprefix("resnet")
    target = "" if size is None else f",target_size={size}"
    overrides = {f"method.options.{option}": value for option, value in options.items()}
    name = f"{base_model}-{kind}" if hashed == "all" else f"{base_model}-{kind}_{hashed}"
    if size is not None:
        name += f"-{size}"
    if width != 1.0:
        overrides["model.options.width_multiplier"] = width
        name += f"-width{width:g}"
    if resolution:
        overrides["model.options.input_resolution"] = resolution
        name += f"-resolution{resolution}"
    return Row(
        name=name,
        series=series or kind,
        group=group or base_model,
        config=f"configs/imagenet_{family}.py:variant={variant},method={method}{target}"
        + (f",hashed={hashed}" if method != "dense" else ""),
        overrides=overrides,
        paper=paper,
        note=note,
        resources=RESOURCES,
    )
