"""Rows of the reduced scale: CIFAR ResNets on Fashion-MNIST at 14 x 14 pixels.

Three epochs without augmentation: two minutes of one core for ResNet-8. Every method's learning
rate is the best in the same search (`experiments.tables.tuning`), on examples held out of the
training split.
"""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.row import Row
from experiments.tables import kinds

TUNING = pathlib.Path(__file__).parents[1] / "results" / "tuning_reduced.json"

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
    seeds: tuple[int, ...] = (0, 1, 2),
    overrides: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Row:
    """A row of a ResNet of a depth (8, 14, 20 or 26), at `rate` in place of the kind's tuned rate.

    The other arguments are those of `kinds.row`.
    """
    # Clipped for every method, though it is the generated weights that need it.
    changes = {"data.augmentation": "none", "optimizer.clip_norm": 1.0, **(overrides or {})}
    changes["optimizer.learning_rate"] = rates()[kind] if rate is None else rate
    config, group = f"configs/fashion_mnist.py:depth={depth},epochs=3.0", f"ResNet-{depth}"
    fields |= {"group": group, "overrides": changes, "seeds": seeds}
    return kinds.row(config, f"resnet{depth}", kind, **fields)


@functools.cache
def rates() -> dict[str, float]:
    """The best learning rate of each kind in the committed results of the experiment 'tuning'.

    Raises:
        ValueError: if a best rate is at the edge of those tried, where the search must be extended.
    """
    tried: dict[str, dict[float, float]] = {}
    for result in json.loads(TUNING.read_text())["rows"]:
        rate, run = result["settings"]["optimizer.learning_rate"], result["runs"][0]
        tried.setdefault(result["series"], {})[rate] = run["test_accuracy"]
    return {kind: best_rate(kind, accuracies) for kind, accuracies in tried.items()}


def best_rate(kind: str, accuracies: Mapping[float, float]) -> float:
    """The learning rate of the highest accuracy; of equal ones, the smallest.

    Raises:
        ValueError: if it is the first or last of those tried.
    """
    best = max(sorted(accuracies), key=accuracies.__getitem__)
    if best in (min(accuracies), max(accuracies)):
        raise ValueError(f"the best rate of {kind}, {best}, is at the edge: extend tuning.FURTHER")
    return best
