"""Table 2: a large model compressed far below a small one, and as good."""

from experiments import paper
from experiments.experiment import Experiment
from experiments.row import Row
from experiments.tables import imagenet, reduced


def experiment(scale: str) -> Experiment:
    """EfficientNet-B4 and B5 against B0 and B1; reduced: ResNet-14 and 20 against 8 and 14."""
    return Experiment(
        name="table2",
        scale=scale,
        title="Table 2: extreme compression of large models",
        question="Is a compressed large model better than a small one of more variables?",
        rows=_paper() if scale == "paper" else _reduced(),
    )


def _paper() -> tuple[Row, ...]:
    def row(model: str, kind: str, size: int | None = None, note: str = "") -> Row:
        number = paper.find("table2", model, kind, size)
        return imagenet.row(model, kind, size=size, paper=number, note=note)

    return (
        row("efficientnet_b0", "dense", note="the paper also prints 76.4 (Figure 4)"),
        row("efficientnet_b4", "smh", 2_000_000),
        row("efficientnet_b5", "smh", 3_000_000),
        row("efficientnet_b1", "dense"),
    )


def _reduced() -> tuple[Row, ...]:
    # The same shares of the small model's size as the paper's: 2M of 5.3M, 3M of 5.3M.
    small = reduced.DENSE_SIZES[8]
    return (
        reduced.row("dense"),
        reduced.row("smh", depth=14, size=round(small * 2 / 5.3)),
        reduced.row("smh", depth=20, size=round(small * 3 / 5.3)),
        reduced.row("dense", depth=14),
    )
