"""The scales that a laptop trains: CIFAR ResNets on Fashion-MNIST at 14 x 14 pixels.

'reduced' answers in hours: ResNet-8, three epochs. 'standard' takes days of one core and sees
smaller differences: ResNet-14, fifteen epochs with crops and flips, more seeds. Every method's
learning rate is the best in the same search (`experiments.tables.tuning`), on examples held out of
the training split.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.row import Row
from experiments.tables import kinds

RESULTS = pathlib.Path(__file__).parents[1] / "results"

# All trainable variables of the dense models.
DENSE_SIZES = {8: 75_002, 14: 172_218, 20: 269_434, 26: 366_650}


@dataclasses.dataclass(frozen=True)
class SmallScale:
    """A base model, how long it trains, and the sizes at which methods are compared.

    Attributes:
        name: of the scale.
        depth: of the base ResNet.
        depths: of the ResNets of the tables that compare base models.
        epochs, augmentation: of every run.
        search_epochs: of the runs that choose learning rates.
        seeds: of the rows.
        tenth, quarter, half: shares of the base model's variables, the target sizes.
        widths: width multipliers by depth and size, those that come closest below it
            (`smh_jax.models.width_multiplier.solve`).
        resolutions: by size, at which a model of the base depth and that width has the
            multiply-adds of the full one (`smh_jax.models.matching_resolution`).
    """

    name: str
    depth: int
    depths: tuple[int, ...]
    epochs: float
    augmentation: str
    search_epochs: float
    seeds: tuple[int, ...]
    tenth: int
    quarter: int
    half: int
    widths: Mapping[tuple[int, int], float]
    resolutions: Mapping[int, int]

    def row(
        self,
        kind: str,
        *,
        depth: int | None = None,
        rate: float | None = None,
        epochs: float | None = None,
        overrides: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Row:
        """A row of a ResNet of a depth, at `rate` in place of the kind's tuned rate.

        The other arguments are those of `kinds.row`.
        """
        depth, epochs = depth or self.depth, epochs or self.epochs
        # Clipped for every method, though it is the generated weights that need it.
        changes = {"data.augmentation": self.augmentation, "optimizer.clip_norm": 1.0}
        changes |= overrides or {}
        changes["optimizer.learning_rate"] = self.rates()[kind] if rate is None else rate
        config = f"configs/fashion_mnist.py:depth={depth},epochs={epochs}"
        fields = {"seeds": self.seeds} | fields
        fields |= {"group": f"ResNet-{depth}", "overrides": changes}
        return kinds.row(config, f"resnet{depth}", kind, **fields)

    def narrow_row(self, size: int, *, depth: int | None = None, **fields: Any) -> Row:
        """The row of the width multiplier that comes closest below a size."""
        depth = depth or self.depth
        return self.row("width_multiplier", depth=depth, width=self.widths[depth, size], **fields)

    def rates(self) -> dict[str, float]:
        """The best learning rate of each kind in the committed results of 'tuning'.

        Raises:
            ValueError: if a best rate is at the edge of those tried, where the search must be
                extended.
        """
        path = RESULTS / f"tuning_{self.name}.json"
        # Until a scale has been searched, and for kinds that were not, the smaller scale's.
        searched = searched_rates(path) if path.exists() else {}
        return searched if self.name == "reduced" else REDUCED.rates() | searched


REDUCED = SmallScale(
    name="reduced", depth=8, depths=(8, 14, 20), epochs=3.0, augmentation="none",
    search_epochs=3.0, seeds=(0, 1, 2), tenth=7_500, quarter=18_750, half=37_500,
    widths={
        (8, 7_500): 0.3, (8, 18_750): 0.49, (8, 37_500): 0.7,
        (14, 7_500): 0.2, (14, 18_750): 0.328, (14, 37_500): 0.46,
        (20, 7_500): 0.16, (20, 18_750): 0.25, (20, 37_500): 0.36,
    },
    resolutions={7_500: 45, 18_750: 28, 37_500: 20},
)  # fmt: skip
STANDARD = SmallScale(
    name="standard", depth=14, depths=(14, 20), epochs=15.0, augmentation="crop_flip",
    search_epochs=5.0, seeds=(0, 1, 2, 3, 4), tenth=17_222, quarter=43_054, half=86_109,
    widths={
        (14, 17_222): 0.32, (14, 43_054): 0.49, (14, 86_109): 0.7,
        (20, 17_222): 0.24, (20, 43_054): 0.398, (20, 86_109): 0.57,
    },
    resolutions={17_222: 45, 43_054: 29, 86_109: 20},
)  # fmt: skip
SMALL_SCALES = {scale.name: scale for scale in (REDUCED, STANDARD)}


@functools.cache
def searched_rates(path: pathlib.Path, group: str = "") -> dict[str, float]:
    """The best learning rate of each series in committed results, of all rows or of a group's.

    Series whose search is not complete have none.
    """
    tried: dict[str, dict[float, float]] = {}
    unfinished = set()
    for result in json.loads(path.read_text())["rows"]:
        if group not in ("", result["group"]):
            continue
        if not result["runs"]:
            unfinished.add(result["series"])
            continue
        rate, run = result["settings"]["optimizer.learning_rate"], result["runs"][0]
        tried.setdefault(result["series"], {})[rate] = run["test_accuracy"]
    return {
        kind: best_rate(kind, accuracies)
        for kind, accuracies in tried.items()
        if kind not in unfinished
    }


def best_rate(kind: str, accuracies: Mapping[float, float]) -> float:
    """The learning rate of the highest accuracy; of equal ones, the smallest.

    Raises:
        ValueError: if it is the first or last of those tried.
    """
    best = max(sorted(accuracies), key=accuracies.__getitem__)
    if best in (min(accuracies), max(accuracies)):
        raise ValueError(f"the best rate of {kind}, {best}, is at the edge: extend tuning.FURTHER")
    return best
