"""Rows of the reduced scale: CIFAR ResNets on Fashion-MNIST at 14 x 14 pixels.

Three epochs without augmentation: two minutes of one core for ResNet-8. Every method's learning
rate is chosen by the same search (`experiments.tables.tuning`), on examples held out of the
training split, and kept in `reduced_rates.json`.
"""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.paper import Number
from experiments.row import Row

RATES = pathlib.Path(__file__).with_name("reduced_rates.json")
EPOCHS = 3.0
SEEDS = (0, 1, 2)

# All trainable variables of the dense models.
DENSE_SIZES = {8: 75_002, 14: 172_218, 20: 269_434, 26: 366_650}
HALF, QUARTER, TENTH = 37_500, 18_750, 7_500

# Width multipliers of a ResNet's depth that come closest below a size
# (`smh_jax.width_multiplier.solve`), and the resolution at which a narrow ResNet-8 has the
# multiply-adds of the full one (`smh_jax.models.matching_resolution`).
WIDTHS = {
    (8, TENTH): 0.3, (8, QUARTER): 0.49, (8, HALF): 0.7,
    (14, TENTH): 0.2, (14, QUARTER): 0.328, (14, HALF): 0.46,
    (20, TENTH): 0.16, (20, QUARTER): 0.25, (20, HALF): 0.36,
}  # fmt: skip
RESOLUTIONS = {TENTH: 45, QUARTER: 28, HALF: 20}

# Method and options of what is compared; each has a learning rate of its own.
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
    kind: str,
    *,
    name: str = "",
    size: int | None = None,
    series: str | None = None,
    depth: int = 8,
    hashed: str = "all",
    width: float = 1.0,
    resolution: int = 0,
    rate: float | None = None,
    paper: Number | None = None,
    seeds: tuple[int, ...] = SEEDS,
    **changes: Any,
) -> Row:
    """A row of the reduced scale.

    Args:
        kind: of `KINDS`.
        name: of the row; '' is one that tells what is trained, the same in every table.
        size: the target; for a dense model None.
        series: of the row, if it is not the kind.
        hashed: which weights.
        depth: of the ResNet, 8, 14, 20 or 26.
        width, resolution: of the model's options, for the narrower baselines.
        rate: learning rate in place of the tuned one of the kind.
        paper: the number of the paper's row that this one stands for.
        seeds: to train.
        **changes: other overrides, by field name with '__' for the dot.
    """
    method, options = KINDS[kind]
    target = "" if size is None else f",target_size={size}"
    overrides = {
        "data.augmentation": "none",
        # For every method, though it is the generated weights that need it.
        "optimizer.clip_norm": 1.0,
        **{f"method.options.{option}": value for option, value in options.items()},
        **{field.replace("__", "."): value for field, value in changes.items()},
    }
    rate = rates().get(kind) if rate is None else rate
    if rate is not None:
        overrides["optimizer.learning_rate"] = rate
    if width != 1.0:
        overrides["model.options.width_multiplier"] = width
    if resolution:
        overrides["model.options.input_resolution"] = resolution
    parts = [f"resnet{depth}", kind if hashed == "all" else f"{kind}_{hashed}"]
    parts += [str(size)] if size else []
    parts += [f"width{width:g}"] if width != 1.0 else []
    parts += [f"resolution{resolution}"] if resolution else []
    return Row(
        name=name or "-".join(parts),
        series=series or kind,
        group=f"ResNet-{depth}",
        config=(
            f"configs/fashion_mnist.py:depth={depth},epochs={EPOCHS},"
            f"method={method}{target},hashed={hashed}"
        ),
        overrides=overrides,
        paper=paper,
        seeds=seeds,
    )


@functools.cache
def rates() -> dict[str, float]:
    """The chosen learning rate of each of `KINDS`; until it is chosen, the config's own is used."""
    return json.loads(RATES.read_text())["learning_rate"] if RATES.exists() else {}
