"""Table 2: a large model compressed far below a small one, and as good."""

import functools

from experiments.experiment import Experiment
from experiments.tables import imagenet
from experiments.tables.small_scale import DENSE_SIZES, SMALL_SCALES


def experiment(scale: str) -> Experiment:
    """EfficientNet-B4 and B5 against B0 and B1; else ResNet-14 and 20 against 8 and 14."""
    if scale == "paper":
        row = functools.partial(imagenet.row, table="table2")
        rows = (
            row("efficientnet_b0", "dense", note="the paper also prints 76.4 (Figure 4)"),
            row("efficientnet_b4", "smh", size=2_000_000),
            row("efficientnet_b5", "smh", size=3_000_000),
            row("efficientnet_b1", "dense"),
        )
    else:
        # The same shares of the small model's size as the paper's: 2M of 5.3M, 3M of 5.3M.
        row, size = SMALL_SCALES[scale].row, DENSE_SIZES[8]
        rows = (
            row("dense", depth=8),
            row("smh", depth=14, size=round(size * 2 / 5.3)),
            row("smh", depth=20, size=round(size * 3 / 5.3)),
            row("dense", depth=14),
        )
    return Experiment(
        "table2",
        scale,
        title="Table 2: extreme compression of large models",
        question="Is a compressed large model better than a small one of more variables?",
        rows=rows,
    )
