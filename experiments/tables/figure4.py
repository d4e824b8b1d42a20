"""Figure 4: several base models compressed to the sizes of smaller ones."""

from experiments import paper
from experiments.experiment import Experiment
from experiments.row import Row
from experiments.tables import imagenet
from experiments.tables.small_scale import DENSE_SIZES, SMALL_SCALES

# By size: the small EfficientNet that has it, and those that are compressed to it.
TARGETS = {
    5_300_000: ("b0", ("b1", "b2", "b3", "b4", "b5", "b6")),
    7_900_000: ("b1", ("b2", "b3", "b4")),
    9_300_000: ("b2", ("b3", "b4")),
}


def experiment(scale: str) -> Experiment:
    """EfficientNet-B1 to B6 at the sizes of B0 to B2; else ResNet-14 to 26 at ResNet-8's."""
    if scale == "paper":
        rows = _paper()
    else:
        row, size = SMALL_SCALES[scale].row, DENSE_SIZES[8]
        rows = (
            row("dense", depth=8, series="ResNet-8, dense"),
            *(row("smh", series=f"ResNet-{n}", depth=n, size=size) for n in (14, 20, 26)),
        )
    return Experiment(
        "figure4",
        scale,
        title="Figure 4: base models compressed to the size of a smaller one",
        question="Is a larger base model better at equal size?",
        rows=rows,
        plot="dots",
    )


def _paper() -> tuple[Row, ...]:
    rows = []
    for size, (small, variants) in TARGETS.items():
        group = f"{size / 1e6:g}M"
        table = "figure4" if small == "b0" else ""
        fields = {"series": f"{small}, dense", "group": group, "table": table}
        rows.append(imagenet.row(f"efficientnet_{small}", "dense", **fields))
        for variant in variants:
            model = f"efficientnet_{variant}"
            fields = {"size": size, "series": variant, "group": group}
            if (variant, size) == ("b6", 5_300_000):
                fields["note"] = "the paper's text says 80.3"
            if size in paper.sizes("figure4", model, "smh"):
                fields["table"] = "figure4"
            elif size in paper.sizes("table3", model, "smh_learnable_scale"):
                # Of the bars of the larger sizes, those that Table 3 prints, too.
                fields["paper"] = paper.find("table3", model, "smh_learnable_scale", size)
            rows.append(imagenet.row(model, "smh", **fields))
    return tuple(rows)
