"""Figure 3: SMH against the width multiplier on ResNets."""

from experiments import paper
from experiments.experiment import Experiment
from experiments.row import Row
from experiments.tables import imagenet, reduced

# The paper names no multiplier. Of the points of its curve one can be read, which at 3.3M variables
# is a width of about a third.
WIDTHS = (0.25, 0.33, 0.5, 0.75)


def experiment(scale: str) -> Experiment:
    """ResNet-50 and 101 on ImageNet; reduced: ResNet-14 and 20."""
    return Experiment(
        name="figure3",
        scale=scale,
        title="Figure 3: ResNets, SMH against the width multiplier",
        question="Does SMH compress ResNets better than a width multiplier?",
        rows=_paper() if scale == "paper" else _reduced(),
    )


def _paper() -> tuple[Row, ...]:
    rows = []
    for model in ("resnet50", "resnet101"):
        rows.append(imagenet.row(model, "dense", series=f"{model}, dense"))
        for size in paper.sizes("figure3", model, "smh"):
            number = paper.find("figure3", model, "smh", size)
            rows.append(imagenet.row(model, "smh", size=size, series=f"{model}, SMH", paper=number))
        for width in WIDTHS:
            number, series = None, f"{model}, width"
            if (model, width) == ("resnet50", 0.33):
                number = paper.find("figure3", model, "width_multiplier", 3_300_000)
            rows.append(
                imagenet.row(model, "width_multiplier", width=width, series=series, paper=number)
            )
    return tuple(rows)


def _reduced() -> tuple[Row, ...]:
    rows = []
    for depth in (14, 20):
        name = f"ResNet-{depth}"
        rows.append(reduced.row("dense", series=f"{name}, dense", depth=depth))
        for size in (reduced.TENTH, reduced.QUARTER, reduced.HALF):
            width = reduced.WIDTHS[depth, size]
            rows += [
                reduced.row("smh", series=f"{name}, SMH", depth=depth, size=size),
                reduced.row("width_multiplier", series=f"{name}, width", depth=depth, width=width),
            ]
    return tuple(rows)
