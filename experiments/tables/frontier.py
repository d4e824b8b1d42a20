"""The smallest file at an accuracy: bytes of real files, of SMH and of what one might take instead.

Not in the paper. Every file has all of a model: weights, batch norm, and how it is made.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from experiments.experiment import Experiment, View
from experiments.row import RUN_OF, Row
from experiments.tables import figure6, imagenet
from experiments.tables.small_scale import REDUCED

# Chosen on held-out training images among 0, 0.03 and 0.1 at one step.
RATE_WEIGHT = 0.03
# Exports of one run, whose pools are rounded after training.
AFTER = ("float32", "int8", "int4", "coded:0.08", "coded:0.125", "coded:0.25")


@dataclasses.dataclass(frozen=True)
class Networks:
    """What is compared of a base model, and how each network is trained for its file.

    Attributes:
        prefix: of the rows' names.
        teacher: name of the row of the dense network.
        rows: makes a row of each network; of each there is one that is rounded after training.
        trained: by network, the precisions for which it is trained.
        pruned: networks with the share that is pruned and the precision.
        distilled: by network, the precision at which it learns from the dense one.
    """

    prefix: str
    teacher: str
    rows: Mapping[str, Callable[..., Row]]
    trained: Mapping[str, tuple[str, ...]]
    pruned: tuple[tuple[str, float, str], ...]
    distilled: Mapping[str, str]

    def all_rows(self) -> tuple[Row, ...]:
        """Rounded after training, trained for fewer bits, pruned, and distilled."""
        teacher = {"distillation.teacher": f"{RUN_OF}{self.teacher}"}
        return (
            # These are runs of other tables too, and have their names there.
            *(
                row(series=f"{network}, rounded after training", precisions=AFTER)
                for network, row in self.rows.items()
            ),
            *(self._row(network, at) for network, steps in self.trained.items() for at in steps),
            *(
                self._row(network, at, f"pruned {share:.0%}", pruning=share)
                for network, share, at in self.pruned
            ),
            *(self._row(n, at, "distilled", **teacher) for n, at in self.distilled.items()),
        )

    def _row(self, network: str, precision: str, how: str = "", **overrides: Any) -> Row:
        """A network trained at the precision of its file, and in one more way than that."""
        coded = precision.startswith("coded")
        overrides |= {"pool_precision": precision} | ({"rate_weight": RATE_WEIGHT} if coded else {})
        series = (network, how, f"trained {'coded' if coded else 'in few bits'}")
        return self.rows[network](
            name="-".join(filter(None, (self.prefix, network, how, precision))).replace(" ", "_"),
            series=", ".join(filter(None, series)),
            precisions=(precision,),
            overrides=overrides,
        )


SMALL = Networks(
    prefix="frontier",
    teacher="resnet8-dense",
    rows={
        "dense": functools.partial(REDUCED.row, "dense"),
        "width multiplier 10%": functools.partial(REDUCED.narrow_row, REDUCED.tenth),
        "width multiplier 25%": functools.partial(REDUCED.narrow_row, REDUCED.quarter),
        "SMH 10%": functools.partial(REDUCED.row, "smh", size=REDUCED.tenth),
        "SMH 25%": functools.partial(REDUCED.row, "smh", size=REDUCED.quarter),
    },
    trained={
        "dense": ("coded:0.5", "coded:1.0", "coded:1.5", "int3", "ternary"),
        "width multiplier 10%": ("coded:0.25", "coded:0.5"),
        "width multiplier 25%": ("coded:0.5", "coded:1.0"),
        "SMH 10%": ("coded:0.125", "coded:0.25", "coded:0.5", "coded:1.0"),
        "SMH 25%": ("coded:0.25", "coded:0.5", "coded:1.0"),
    },
    pruned=(
        ("dense", 0.8, "coded:1.0"),
        ("dense", 0.9, "coded:1.0"),
        ("width multiplier 25%", 0.5, "coded:0.5"),
        ("SMH 25%", 0.5, "coded:0.5"),
    ),
    distilled={
        "dense": "coded:1.0",
        "width multiplier 10%": "coded:0.25",
        "width multiplier 25%": "coded:0.5",
        "SMH 10%": "coded:0.25",
        "SMH 25%": "coded:0.25",
    },
)


def _paper_scale(
    prefix: str, teacher: str, make: Callable[..., Row], size: int, width: float, finest: str
) -> Networks:
    """A base model, SMH at a size, and the width multiplier that comes closest below it."""
    return Networks(
        prefix=prefix,
        teacher=teacher,
        rows={
            "dense": functools.partial(make, "dense"),
            "width multiplier": functools.partial(make, "width_multiplier", width=width),
            "SMH": functools.partial(make, "smh", size=size),
        },
        trained={
            "dense": ("coded:1.0",),
            "width multiplier": ("coded:0.25",),
            "SMH": (finest, "coded:0.25"),
        },
        pruned=(("dense", 0.8, "coded:1.0"),),
        distilled={"SMH": "coded:0.25"},
    )


# On CIFAR-10 and ImageNet. Of the finest steps an element of a normal distribution takes 6.05 and
# 7.05 bits: files of 57 kB and of 1.76 MB.
RESNET32 = _paper_scale(
    "frontier-resnet32", "cifar_resnet32-dense", figure6.cifar_row, 75_800, 0.398, "coded:0.0625"
)
EFFICIENTNET_B4 = _paper_scale(
    "frontier-efficientnet_b4",
    "efficientnet_b4-dense",
    functools.partial(imagenet.row, "efficientnet_b4"),
    2_000_000,
    0.28,
    "coded:0.03125",
)


def experiment(scale: str) -> Experiment:
    """ResNet-32 on CIFAR-10 and EfficientNet-B4 on ImageNet; else ResNet-8 on Fashion-MNIST."""
    if scale == "paper":
        by_title = {"ResNet-32, CIFAR-10": RESNET32, "EfficientNet-B4, ImageNet": EFFICIENTNET_B4}
        question = ""
    else:
        by_title = {"": SMALL}
        question = (
            " ResNet-8 at 14 x 14 pixels on Fashion-MNIST, three epochs; 10,000 test images: one "
            "standard error is 0.3 points."
        )
    rows = {title: networks.all_rows() for title, networks in by_title.items()}
    return Experiment(
        "frontier",
        scale,
        title="Accuracy against bytes of the file",
        question=f"Which model is the smallest file at an accuracy?{question}",
        rows=tuple(row for group in rows.values() for row in group),
        views=tuple(
            View("frontier", title, tuple(row.name for row in group))
            for title, group in rows.items()
        ),
    )
