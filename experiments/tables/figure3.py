"""Figure 3: SMH against the width multiplier on ResNets."""

from experiments import paper
from experiments.experiment import Experiment
from experiments.tables import imagenet, reduced

# The paper names no multiplier. Of the points of its curve one can be read, which at 3.3M variables
# is a width of about a third.
WIDTHS = {0.25: None, 0.33: 3_300_000, 0.5: None, 0.75: None}


def experiment(scale: str) -> Experiment:
    """ResNet-50 and 101 on ImageNet; reduced: ResNet-14 and 20."""
    rows = []
    for model in ("resnet50", "resnet101") if scale == "paper" else ():
        rows.append(imagenet.row(model, "dense", series=f"{model}, dense"))
        rows += [
            imagenet.row(model, "smh", size=size, table="figure3", series=f"{model}, SMH")
            for size in paper.sizes("figure3", model, "smh")
        ]
        for width, size in WIDTHS.items():
            fields = {"width": width, "series": f"{model}, width"}
            if size and model == "resnet50":
                fields["paper"] = paper.find("figure3", model, "width_multiplier", size)
            rows.append(imagenet.row(model, "width_multiplier", **fields))
    for depth in (14, 20) if scale == "reduced" else ():
        name = f"ResNet-{depth}"
        rows.append(reduced.row("dense", series=f"{name}, dense", depth=depth))
        for size in (reduced.TENTH, reduced.QUARTER, reduced.HALF):
            width = reduced.WIDTHS[depth, size]
            rows += [
                reduced.row("smh", series=f"{name}, SMH", depth=depth, size=size),
                reduced.row("width_multiplier", series=f"{name}, width", depth=depth, width=width),
            ]
    return Experiment(
        "figure3",
        scale,
        title="Figure 3: ResNets, SMH against the width multiplier",
        question="Does SMH compress ResNets better than a width multiplier?",
        rows=tuple(rows),
    )
