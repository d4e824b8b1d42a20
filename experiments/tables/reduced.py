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

from experiments.row import Row
from experiments.tables import kinds

RATES = pathlib.Path(__file__).with_name("reduced_rates.json")
EPOCHS = 3.0
SEEDS = (0, 1, 2)

# All trainable variables of the dense models.
DENSE_SIZES = {8: 75_002, 14: 172_218, 20: 269_434, 26: 366_650}
HALF, QUARTER, TENTH = 37_500, 18_750, 7_500

# Width multipliers of a ResNet's depth that come closest below a size
# (`smh_jax.models.width_multiplier.solve`), and the resolution at which a narrow ResNet-8 has the
# multiply-adds of the full one (`smh_jax.models.matching_resolution`).
WIDTHS = {
    (8, TENTH): 0.3, (8, QUARTER): 0.49, (8, HALF): 0.7,
    (14, TENTH): 0.2, (14, QUARTER): 0.328, (14, HALF): 0.46,
    (20, TENTH): 0.16, (20, QUARTER): 0.25, (20, HALF): 0.36,
}  # fmt: skip
RESOLUTIONS = {TENTH: 45, QUARTER: 28, HALF: 20}


def row(
    kind: str,
    *,
    depth: int = 8,
    rate: float | None = None,
    seeds: tuple[int, ...] = SEEDS,
    overrides: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Row:
    """A row of the reduced scale; for the arguments that are not here see `kinds.row`.

    Args:
        kind: of `kinds.KINDS`.
        depth: of the ResNet, 8, 14, 20 or 26.
        rate: learning rate in place of the tuned one of the kind.
        seeds: to train.
        overrides: config fields by dotted name.
        **fields: others of `kinds.row`.
    """
    # Clipped for every method, though it is the generated weights that need it.
    changes = {"data.augmentation": "none", "optimizer.clip_norm": 1.0, **(overrides or {})}
    rate = rates().get(kind) if rate is None else rate
    if rate is not None:
        changes["optimizer.learning_rate"] = rate
    return kinds.row(
        f"configs/fashion_mnist.py:depth={depth},epochs={EPOCHS}",
        f"resnet{depth}",
        kind,
        group=f"ResNet-{depth}",
        overrides=changes,
        seeds=seeds,
        **fields,
    )


@functools.cache
def rates() -> dict[str, float]:
    """The learning rate of each of `kinds.KINDS`; until it is chosen, the config's own is used."""
    return json.loads(RATES.read_text())["learning_rate"] if RATES.exists() else {}
