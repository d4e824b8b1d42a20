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


def _row(
    name: str,
    series: str,
    size: int | None,
    epochs: float,
    rate: float = 0.4,
    *,
    seeds: tuple[int, ...] = (0,),
    overrides: dict[str, Any] | None = None,
    **fields: Any,
) -> Row:
    """ResNet-8 on Fashion-MNIST at 14 x 14 pixels, ResNet-20 on digits; dense without a size."""
    on_digits = series.startswith("digits")
    return kinds.row(
        "configs/digits.py:depth=20" if on_digits else "configs/fashion_mnist.py:depth=8",
        "ResNet-20" if on_digits else "ResNet-8",
        "dense" if size is None else "smh",
        name=f"shipping-{name}",
        series=series,
        size=size,
        seeds=seeds,
        overrides={
            "data.augmentation": "crop" if on_digits else "crop_flip",
            "epochs": epochs,
            RATE: rate,
            **(overrides or {}),
        },
        **fields,
    )


def _run_of(name: str) -> str:
    return f"{RUN_OF}shipping-{name}"


def _compared() -> dict[str, Row]:
    """SMH at 25%, from scratch, distilled, and converted from the dense model."""
    teacher = {"distillation.teacher": _run_of("dense")}
    converted = {"init_from": _run_of("converted")}
    settings: dict[str, tuple] = {
        "dense": ("dense", None, 10.0),
        "converted": ("converted", QUARTER, 10.0),
        "half": ("from scratch, half the steps", QUARTER, 2.5),
        "scratch": ("from scratch", QUARTER, 5.0),
        "twice_the_rate": ("from scratch, twice the rate", QUARTER, 5.0, 0.8),
        "distilled": ("from scratch, distilled", QUARTER, 5.0),
        "tuned": ("converted and fine-tuned", QUARTER, 2.5),
        "tuned-distilled": ("converted, fine-tuned and distilled", QUARTER, 2.5),
    }
    fields: dict[str, dict[str, Any]] = {
        "converted": {"convert_from": "shipping-dense"},
        "distilled": {"overrides": teacher},
        "tuned": {"overrides": converted},
        "tuned-distilled": {"overrides": converted | teacher},
    }
    return {
        name: _row(name, *setting, seeds=(0, 1, 2), **fields.get(name, {}))
        for name, setting in settings.items()
    }


def _rates() -> tuple[Row, ...]:
    """The choice of the rate, on the last tenth of the training split."""
    tuned = HELD_OUT | {"init_from": _run_of("held_out-converted")}
    return (
        *(
            _row(f"held_out-scratch-{rate}", "from scratch, 5 epochs", QUARTER, 5.0, rate,
                 overrides=HELD_OUT)
            for rate in (0.2, 0.4, 0.8, 1.6)
        ),
        *(
            _row(f"held_out-tuned-{rate}", "fine-tuned, 2.5 epochs", QUARTER, 2.5, rate,
                 overrides=tuned)
            for rate in (0.1, 0.2, 0.4, 0.8)
        ),
    )  # fmt: skip


def _exported() -> tuple[Row, ...]:
    """SMH at 10%, and fine-tuned with pools rounded to 4 bits."""
    return tuple(
        _row(
            name, series, size, epochs, rate, precisions=PRECISIONS,
            overrides={"init_from": _run_of(source), "pool_precision": "int4"} if source else {},
        )
        for name, series, size, epochs, rate, source in (
            ("fashion-10", "Fashion-MNIST", TENTH, 10.0, 0.4, ""),
            ("fashion-10-int4-short", "Fashion-MNIST, 2 epochs at int4", TENTH, 2.0, 0.1,
             "fashion-10"),
            ("fashion-10-int4", "Fashion-MNIST, 5 epochs at int4", TENTH, 5.0, 0.2, "fashion-10"),
            ("digits-10", "digits", 27_000, 40.0, 0.4, ""),
            ("digits-10-int4", "digits, 10 epochs at int4", 27_000, 10.0, 0.1, "digits-10"),
        )
    )  # fmt: skip


def experiment(scale: str) -> Experiment:
    """All rows, at the scale 'reduced' alone."""
    compared, rates, exported = _compared(), _rates(), _exported()
    held_out = (
        _row("held_out-dense", "dense", None, 10.0, overrides=HELD_OUT),
        _row("held_out-converted", "converted", QUARTER, 10.0, overrides=HELD_OUT,
             convert_from="shipping-held_out-dense"),
    )  # fmt: skip
    return Experiment(
        name="shipping",
        scale=scale,
        title="Conversion, distillation and fewer bits",
        question=(
            "What do they cost or gain? Accuracy of the last step; ResNet-8 at 14 x 14 pixels on "
            "Fashion-MNIST (75,002 weights; 10,000 test images: one standard error is 0.3 points), "
            "ResNet-20 on digits (269,434; 360 test images: one is 0.28 points)."
        ),
        rows=(*compared.values(), *held_out, *rates, *exported),
        claims=tuple(
            Claim(text, compared[row].name, compared[than].name, paired=True)
            for text, row, than in (
                ("Fine-tuned is better than from scratch", "tuned", "scratch"),
                (
                    "Fine-tuned is better than from scratch at twice the rate",
                    "tuned",
                    "twice_the_rate",
                ),
                ("Fine-tuned is better than from scratch in as many steps", "tuned", "half"),
                ("From scratch distillation helps", "distilled", "scratch"),
                ("In fine-tuning distillation helps", "tuned-distilled", "tuned"),
            )
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
                "Precision of the pools, SMH at 10%",
                tuple(row.name for row in exported),
                "Test accuracy and bytes of the exported file; one seed. Fine-tuned rows resumed "
                "with pools rounded to 4 bits. Of the two on Fashion-MNIST the longer was tried "
                "after the shorter had been measured on this test set: its rate and length were "
                "not chosen on data held out.",
            ),
        ),
    )
