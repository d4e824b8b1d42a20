"""Figure 3: SMH against the width multiplier on ResNets."""

from experiments import paper
from experiments.experiment import Experiment
from experiments.tables import imagenet
from experiments.tables.small_scale import SMALL_SCALES

# The paper names no multiplier. Of the points of its curve one can be read, which at 3.3M variables
# is a width of about a third.
WIDTHS = {0.25: None, 0.33: 3_300_000, 0.5: None, 0.75: None}


def experiment(scale: str) -> Experiment:
    """ResNet-50 and 101 on ImageNet; else ResNet-14 and 20."""
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
    for depth in (14, 20) if scale != "paper" else ():
        small = SMALL_SCALES[scale]
        name = f"ResNet-{depth}"
        rows.append(small.row("dense", series=f"{name}, dense", depth=depth))
        for size in (small.tenth, small.quarter, small.half):
            rows += [
                small.row("smh", series=f"{name}, SMH", depth=depth, size=size),
                small.narrow_row(size, series=f"{name}, width", depth=depth),
            ]
    return Experiment(
        "figure3",
        scale,
        title="Figure 3: ResNets, SMH against the width multiplier",
        question="Does SMH compress ResNets better than a width multiplier?",
        rows=tuple(rows),
    )
