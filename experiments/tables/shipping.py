"""Conversion, distillation and fewer bits: what they cost or gain in accuracy; not in the paper.

About two hours of training on 2 idle CPU cores.
"""

from typing import Any

from experiments.experiment import Claim, Experiment, View
from experiments.records import RATE
from experiments.row import RUN_OF, Row

SEEDS = (0, 1, 2)
QUARTER, TENTH = 18_750, 7_500  # of ResNet-8's 75,002 weights
PRECISIONS = ("float32", "bfloat16", "int8", "int4")
_HELD_OUT = {"data.train_split": "train[:90%]", "data.eval_split": "train[90%:]"}

DENSE, CONVERTED = "shipping-dense", "shipping-converted"
HALF, SCRATCH, TWICE = "shipping-half", "shipping-scratch", "shipping-twice_the_rate"
DISTILLED, TUNED, BOTH = "shipping-distilled", "shipping-tuned", "shipping-tuned-distilled"


def _fashion(
    name: str,
    series: str,
    size: int | None,
    epochs: float,
    *,
    rate: float = 0.4,
    seeds: tuple[int, ...] = SEEDS,
    overrides: dict[str, Any] | None = None,
    **fields: Any,
) -> Row:
    """A row of ResNet-8 on Fashion-MNIST at 14 x 14 pixels; a dense one where no size is given."""
    method = "method=dense" if size is None else f"method=smh,target_size={size}"
    common = {"data.augmentation": "crop_flip", "epochs": epochs, RATE: rate}
    return Row(
        name=name,
        series=series,
        group="ResNet-8",
        config=f"configs/fashion_mnist.py:{method}",
        overrides=common | (overrides or {}),
        seeds=seeds,
        **fields,
    )


def _digits(name: str, series: str, epochs: float, rate: float, **overrides: Any) -> Row:
    return Row(
        name=name,
        series=series,
        group="ResNet-20",
        config="configs/digits.py:method=smh,target_size=27000",
        overrides={"epochs": epochs, RATE: rate, **overrides},
        precisions=PRECISIONS,
    )


def _compared() -> tuple[Row, ...]:
    """SMH at 25%, from scratch, distilled, and converted from the dense model."""
    teacher = {"distillation.teacher": RUN_OF + DENSE}
    converted = {"init_from": RUN_OF + CONVERTED}
    return (
        _fashion(DENSE, "dense", None, 10.0),
        _fashion(CONVERTED, "converted", QUARTER, 10.0, convert_from=DENSE),
        _fashion(HALF, "from scratch, half the steps", QUARTER, 2.5),
        _fashion(SCRATCH, "from scratch", QUARTER, 5.0),
        _fashion(TWICE, "from scratch, twice the rate", QUARTER, 5.0, rate=0.8),
        _fashion(DISTILLED, "from scratch, distilled", QUARTER, 5.0, overrides=teacher),
        _fashion(TUNED, "converted and fine-tuned", QUARTER, 2.5, overrides=converted),
        _fashion(
            BOTH, "converted, fine-tuned and distilled", QUARTER, 2.5,
            overrides=converted | teacher,
        ),
    )  # fmt: skip


def _rates() -> tuple[Row, ...]:
    """The choice of the rate, on the last tenth of the training split."""
    dense, converted = "shipping-held_out-dense", "shipping-held_out-converted"
    only = {"seeds": (0,)}
    return (
        _fashion(dense, "dense", None, 10.0, overrides=_HELD_OUT, **only),
        _fashion(
            converted, "converted", QUARTER, 10.0, overrides=_HELD_OUT, convert_from=dense, **only
        ),
        *(
            _fashion(
                f"shipping-held_out-scratch-{rate}", "from scratch, 5 epochs", QUARTER, 5.0,
                rate=rate, overrides=_HELD_OUT, **only,
            )
            for rate in (0.2, 0.4, 0.8, 1.6)
        ),
        *(
            _fashion(
                f"shipping-held_out-tuned-{rate}", "fine-tuned, 2.5 epochs", QUARTER, 2.5,
                rate=rate, overrides=_HELD_OUT | {"init_from": RUN_OF + converted}, **only,
            )
            for rate in (0.1, 0.2, 0.4, 0.8)
        ),
    )  # fmt: skip


def _exported() -> tuple[Row, ...]:
    """SMH at 10%, and fine-tuned with pools rounded to 4 bits."""
    fashion, digits = "shipping-fashion-10", "shipping-digits-10"

    def rounded(source: str) -> dict[str, Any]:
        return {"init_from": RUN_OF + source, "pool_precision": "int4"}

    only = {"seeds": (0,), "precisions": PRECISIONS}
    return (
        _fashion(fashion, "Fashion-MNIST", TENTH, 10.0, **only),
        _fashion(
            f"{fashion}-int4-short", "Fashion-MNIST, 2 epochs at int4", TENTH, 2.0,
            rate=0.1, overrides=rounded(fashion), **only,
        ),
        _fashion(
            f"{fashion}-int4", "Fashion-MNIST, 5 epochs at int4", TENTH, 5.0,
            rate=0.2, overrides=rounded(fashion), **only,
        ),
        _digits(digits, "digits", 40.0, 0.4),
        _digits(f"{digits}-int4", "digits, 10 epochs at int4", 10.0, 0.1, **rounded(digits)),
    )  # fmt: skip


def _claims() -> tuple[Claim, ...]:
    pairs = (
        ("Fine-tuned is better than from scratch", TUNED, SCRATCH),
        ("Fine-tuned is better than from scratch at twice the rate", TUNED, TWICE),
        ("Fine-tuned is better than from scratch in as many steps", TUNED, HALF),
        ("From scratch distillation helps", DISTILLED, SCRATCH),
        ("In fine-tuning distillation helps", BOTH, TUNED),
    )
    return tuple(Claim(text, row, than, paired=True) for text, row, than in pairs)


def experiment(scale: str) -> Experiment:
    """All rows, at the scale 'reduced' alone."""
    compared, rates, exported = _compared(), _rates(), _exported()
    return Experiment(
        name="shipping",
        scale=scale,
        title="Conversion, distillation and fewer bits",
        question=(
            "What do they cost or gain? Accuracy of the last step; ResNet-8 at 14 x 14 pixels on "
            "Fashion-MNIST (75,002 weights; 10,000 test images: one standard error is 0.3 points), "
            "ResNet-20 on digits (269,434; 360 test images: one is 0.28 points)."
        ),
        rows=(*compared, *rates, *exported),
        claims=_claims(),
        measure="accuracy",
        views=(
            View(
                "steps",
                "SMH at 25%, Fashion-MNIST",
                tuple(row.name for row in compared if row.name != CONVERTED),
                "Peak rate 0.4 unless named otherwise. The steps of the dense model that is "
                "converted, or that teaches, are not counted.",
            ),
            View("differences", "Differences of runs with the same seed"),
            View(
                "rates",
                "Choice of the rate",
                tuple(row.name for row in rates[2:]),
                "Accuracy on the last tenth of the training split, on which nothing was trained, "
                "neither the dense model that is converted; 6,000 images: one standard error is "
                "0.4 points.",
            ),
            View(
                "errors",
                "What the conversion keeps",
                (CONVERTED,),
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
            View(
                "text",
                "The generated layers",
                text="`python -m smh_jax.plot --workdir=runs/reduced/shipping-scratch/seed0 "
                "--dpi=100`, of which these are copies: no layer is of low rank; the matrix of all "
                "of them is.\n\n![Singular values](fashion_mnist_spectra.png)\n\n"
                "![The tiled matrix](fashion_mnist_matrix.png)",
            ),
        ),
    )
