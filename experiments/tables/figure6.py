"""Figure 6: extreme compression of a CIFAR ResNet, against decompositions and width multiplier.

The paper states its layout as the matrix product over all weights. All 13 of its SMH points fit
`size = 1458 M + 2922`, which is something else: `1458 = 2 * 27 * 27` and 27 is the fourth root of
the 461,232 weights of ResNet-32's convolutions, rounded up, so Kronecker products; and `2922` are
the batch norm's 2,272 and the classifier's 650 variables, stored, with no scales counted. Both
settings are rows, the second as 'smh_like_for_like': all that is trained is counted.
"""

from typing import Any

from experiments import paper
from experiments.experiment import Claim, Experiment
from experiments.row import Row
from experiments.tables import kinds
from experiments.tables.small_scale import SMALL_SCALES, SmallScale

# On CIFAR-10: multipliers whose sizes come within 1% of those read out of the figure.
WIDTHS = {7_600: 0.125, 29_400: 0.25, 65_500: 0.375, 115_800: 0.5}
# As read out of the figure: TRP, a low-rank method, is trained by its authors only.
DECOMPOSITIONS = {
    "tensor_ring": (4_036, 30_943, 92_830), "tucker": (92_830,), "tensor_train": (96_544,),
}  # fmt: skip
LIKE_FOR_LIKE = {"series": "smh_like_for_like", "hashed": "conv"}
KRONECKER = {"method.options.layout": "kronecker"}
SMALL_METHODS = (
    "smh", "width_multiplier", "low_rank", "tucker", "tensor_train", "tensor_ring",
)  # fmt: skip


def experiment(scale: str) -> Experiment:
    """ResNet-32 on CIFAR-10; else a ResNet on Fashion-MNIST at 10% and 25%, SMH also at 50%."""
    rows, claims = (_paper(), ()) if scale == "paper" else _small(SMALL_SCALES[scale])
    return Experiment(
        "figure6",
        scale,
        title="Figure 6: accuracy against size",
        question=(
            "At 25% is SMH within 0.4 points of dense, at 10% within 3? Is it above the width "
            "multiplier, low rank, Tucker, tensor train and tensor ring?"
        ),
        rows=rows,
        claims=claims,
    )


def cifar_row(
    kind: str, size: int | None = None, paper_size: int | None = None, **fields: Any
) -> Row:
    """ResNet-32 alongside the paper's number at a size, if there is one."""
    if paper_size:
        number = paper.find("figure6", "cifar_resnet32", kind, paper_size)
        fields |= {"paper": number, "note": number.source}
    return kinds.row(
        "configs/cifar10.py:depth=32", "cifar_resnet32", kind, group="ResNet-32", size=size,
        seeds=(0, 1, 2), resources={"CPU": 1.0, "TPU": 1.0}, **fields,
    )  # fmt: skip


def _paper() -> tuple[Row, ...]:
    rows = [cifar_row("dense", paper_size=464_154)]
    layout = KRONECKER | {"method.options.matrix": "square"}
    for size in paper.sizes("figure6", "cifar_resnet32", "smh"):
        fields = {"name": f"smh_like_for_like-{size}", "overrides": layout, **LIKE_FOR_LIKE}
        # One scale for each of the 31 convolutions is trained beyond what the paper counts.
        rows += [cifar_row("smh", size + 31, size, **fields), cifar_row("smh", size, size)]
    return (
        *rows,
        *(cifar_row("width_multiplier", None, size, width=width) for size, width in WIDTHS.items()),
        *(cifar_row(kind, size, size) for kind, sizes in DECOMPOSITIONS.items() for size in sizes),
        *(cifar_row("low_rank", size) for size in (46_662, 119_562)),
    )


def _small(scale: SmallScale) -> tuple[tuple[Row, ...], tuple[Claim, ...]]:
    dense = scale.row("dense")
    rows, within, better = [dense], [], []
    for share, margin, size in (("10%", 3.0, scale.tenth), ("25%", 0.4, scale.quarter)):
        compressed = [
            scale.narrow_row(size) if kind == "width_multiplier" else scale.row(kind, size=size)
            for kind in SMALL_METHODS
        ]
        smh, *others = compressed
        text = f"At {share} SMH is within {margin} points of dense"
        within.append(Claim(text, smh.name, dense.name, margin))
        better += [
            Claim(f"At {share} SMH is better than {kinds.label(row.series)}", smh.name, row.name)
            for row in others
        ]
        name = f"resnet{scale.depth}-smh_like_for_like-{size}"
        fields = {"name": name, "overrides": KRONECKER, **LIKE_FOR_LIKE}
        rows += [*compressed, scale.row("smh", size=size, **fields)]
    return (*rows, scale.row("smh", size=scale.half)), (*within, *better)
