"""Figure 5: MobileNets, SMH against the width multiplier, alone and with a higher resolution."""

from experiments.experiment import Experiment
from experiments.row import Row
from experiments.tables import imagenet, reduced

# No numbers can be read out of the paper's figure. These are the usual multipliers, and SMH at the
# sizes that they give: (width, its variables, resolution of equal multiply-adds). The paper's label
# (0.4, 450) is near what matching gives there, 432 (V2) and 440 (V3); 224 / 0.4 would be 560.
V2 = ((0.35, 1_677_128, 504), (0.5, 1_968_680, 385), (0.75, 2_636_424, 257))
V3 = ((0.5, 2_689_904, 384), (0.75, 3_993_528, 257))


def experiment(scale: str) -> Experiment:
    """MobileNetV2 and V3 (large) on ImageNet; reduced: ResNet-8."""
    return Experiment(
        name="figure5",
        scale=scale,
        title="Figure 5: SMH against width multiplier, alone and with up-sampled images",
        question="Is SMH better than a narrower model, and than one that sees larger images?",
        rows=_paper() if scale == "paper" else _reduced(),
    )


def _paper() -> tuple[Row, ...]:
    rows = []
    for model, points in (("mobilenet_v2", V2), ("mobilenet_v3_large", V3)):
        rows.append(imagenet.row(model, "dense", series=f"{model}, dense"))
        for width, size, resolution in points:
            rows += [
                imagenet.row(model, "smh", size=size, series=f"{model}, SMH"),
                imagenet.row(model, "width_multiplier", width=width, series=f"{model}, width"),
                imagenet.row(
                    model, "width_multiplier", width=width, resolution=resolution,
                    series=f"{model}, width + resolution",
                ),
            ]  # fmt: skip
    return tuple(rows)


def _reduced() -> tuple[Row, ...]:
    rows = [reduced.row("dense")]
    for size in (reduced.QUARTER, reduced.HALF):
        width = reduced.WIDTHS[8, size]
        rows += [
            reduced.row("smh", size=size),
            reduced.row("width_multiplier", width=width),
            reduced.row(
                "width_multiplier", series="width_and_resolution",
                width=width, resolution=reduced.RESOLUTIONS[size],
            ),
        ]  # fmt: skip
    return tuple(rows)
