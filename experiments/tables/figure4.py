"""Figure 4: several base models compressed to the sizes of smaller ones."""

from experiments import paper
from experiments.experiment import Experiment
from experiments.row import Row
from experiments.tables import imagenet, reduced

# Base models by the size that they are compressed to: those of B0, B1 and B2.
TARGETS = {
    5_300_000: ("b1", "b2", "b3", "b4", "b5", "b6"),
    7_900_000: ("b2", "b3", "b4"),
    9_300_000: ("b3", "b4"),
}
DENSE = {5_300_000: "b0", 7_900_000: "b1", 9_300_000: "b2"}


def experiment(scale: str) -> Experiment:
    """EfficientNet-B1 to B6 at the sizes of B0 to B2; reduced: ResNet-14 to 26 at ResNet-8's."""
    return Experiment(
        name="figure4",
        scale=scale,
        title="Figure 4: base models compressed to the size of a smaller one",
        question="Is a larger base model better at equal size?",
        rows=_paper() if scale == "paper" else _reduced(),
        plot="bars",
    )


def _number(model: str, size: int) -> paper.Number | None:
    # Of the bars of the larger sizes, those that Table 3 prints, too.
    for experiment_, method in (("figure4", "smh"), ("table3", "smh_learnable_scale")):
        if size in paper.sizes(experiment_, model, method):
            return paper.find(experiment_, model, method, size)
    return None


def _paper() -> tuple[Row, ...]:
    rows = []
    for size, variants in TARGETS.items():
        group = f"{size / 1e6:g}M"
        small = f"efficientnet_{DENSE[size]}"
        number = paper.find("figure4", small, "dense") if DENSE[size] == "b0" else None
        rows.append(
            imagenet.row(small, "dense", series=f"{DENSE[size]}, dense", group=group, paper=number)
        )
        for variant in variants:
            model = f"efficientnet_{variant}"
            note = "the paper's text says 80.3" if (variant, size) == ("b6", 5_300_000) else ""
            rows.append(
                imagenet.row(model, "smh", size=size, series=variant, group=group, note=note,
                    paper=_number(model, size))
            )  # fmt: skip
    return tuple(rows)


def _reduced() -> tuple[Row, ...]:
    size = reduced.DENSE_SIZES[8]
    return (
        reduced.row("dense", series="ResNet-8, dense"),
        *(
            reduced.row("smh", series=f"ResNet-{depth}", depth=depth, size=size)
            for depth in (14, 20, 26)
        ),
    )
