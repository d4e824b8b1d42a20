"""Tables and plots of what the rows gave."""

import json
import math
import os
import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.shipping import rows
from smh_jax.shipping import artifact as artifacts
from smh_jax.shipping import from_run as shipping

COMMAND = "python -m experiments.shipping --workdir=runs/shipping"
PRECISIONS = ("float32", "bfloat16", "int8", "int4")
# Labels of the compared settings, and the rows of their seeds.
SETTINGS = {
    "from scratch, half the steps": "fashion_smh25_e2.5_s{}",
    "from scratch": "fashion_smh25_e5_s{}",
    "from scratch, twice the rate": "fashion_smh25_e5_r0.8_s{}",
    "from scratch, distilled": "fashion_distill25_e5_s{}",
    "converted and fine-tuned, half the steps": "fashion_ft25_e2.5_s{}",
    "the same, distilled": "fashion_ftdistill25_e2.5_s{}",
    "dense, twice the epochs": "fashion_dense_s{}",
}
_FIELDS = ("test_accuracy", "test_loss", "steps", "epochs", "num_variables", "train_seconds")


def measure(workdir: pathlib.Path) -> dict[str, Any]:
    """All numbers: of every row, of exports, and of conversions."""
    content: dict[str, Any] = {"command": COMMAND, "cores": os.cpu_count(), "rows": {}}
    for name, row in rows.rows().items():
        if row.convert_from is not None:
            found = json.loads((workdir / name / "conversion.json").read_text())
            before = _exports(workdir / name, ("float32",))["float32"]["accuracy"]
            content["rows"][name] = {
                "relative_errors": found["relative_errors"],
                "test_accuracy": before,
            }
        else:
            result = json.loads((workdir / name / "result.json").read_text())
            content["rows"][name] = {field: result[field] for field in _FIELDS}
    seconds = [row.get("train_seconds", 0.0) for row in content["rows"].values()]
    content["hours"] = round(sum(seconds) / 3600, 2)
    content["exports"] = {
        name: _exports(workdir / name, PRECISIONS) for name in rows.precision_rows()
    }
    return content


def _exports(folder: pathlib.Path, precisions: tuple[str, ...]) -> dict[str, Any]:
    """Bytes and accuracy of a run's artifact by precision."""
    artifact = shipping.read_artifact(folder)
    data = shipping.dataset_of(artifact, None)
    made = {}
    for precision in precisions:
        one = shipping.with_accuracy(artifact.at(precision), data)
        size = len(artifacts.encode(one))
        made[precision] = {"bytes": size, "accuracy": one.accuracy["accuracy"]}
    return made


def accuracies(content: dict[str, Any], setting: str) -> np.ndarray:
    """Test accuracy in percent by seed."""
    found = [content["rows"][SETTINGS[setting].format(seed)] for seed in rows.SEEDS]
    return 100 * np.array([row["test_accuracy"] for row in found])


def text(content: dict[str, Any]) -> str:
    """The report in Markdown."""
    return "\n\n".join(
        [
            "# Conversion, distillation and fewer bits",
            f"`{COMMAND}`: {content['hours']} hours of training on {content['cores']} CPU cores "
            "that did other work as well. Test accuracy of the last step; ResNet-8 at 14 x 14 "
            "pixels on Fashion-MNIST (75,002 weights; 10,000 test images: one standard error is "
            "0.3 points), ResNet-20 on digits (269,434; 360 test images: one is 0.28 points).",
            "![Accuracy by steps, gain of distillation, accuracy by bytes](shipping.png)",
            _comparison(content),
            _gains(content),
            _rates(content),
            _errors(content),
            _precisions(content),
            "## The generated layers\n\n"
            "`python -m smh_jax.plot --workdir=runs/shipping/fashion_smh25_e5_s0 --dpi=100`, of "
            "which these are copies: no layer is of low rank; the matrix of all of them is.\n\n"
            "![Singular values](fashion_mnist_spectra.png)\n\n"
            "![The tiled matrix](fashion_mnist_matrix.png)",
        ]
    )


def _comparison(content: dict[str, Any]) -> str:
    lines = [
        "## SMH at 25% on Fashion-MNIST\n",
        "Peak rate 0.4 unless named otherwise. The steps of the dense model that is converted, or "
        "that teaches, are not counted.\n",
        "| | steps | seeds 0, 1, 2 | mean |",
        "| --- | ---: | --- | ---: |",
    ]
    for label, name in SETTINGS.items():
        each = accuracies(content, label)
        steps = content["rows"][name.format(0)]["steps"]
        listed = ", ".join(f"{value:.2f}" for value in each)
        lines.append(f"| {label} | {steps:,} | {listed} | {each.mean():.2f} |")
    return "\n".join(lines)


def gain(content: dict[str, Any], setting: str, base: str) -> tuple[np.ndarray, float, float]:
    """Points by which a setting is better than another with the same seed: each, mean, its error.

    The error is the standard error of the mean over the seeds.
    """
    each = accuracies(content, setting) - accuracies(content, base)
    return each, float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each)))


def _gains(content: dict[str, Any]) -> str:
    tuned, half = "converted and fine-tuned, half the steps", "from scratch, half the steps"
    pairs = (
        (tuned, "from scratch"),
        (tuned, "from scratch, twice the rate"),
        (tuned, half),
        ("from scratch, distilled", "from scratch"),
        ("the same, distilled", tuned),
    )
    lines = ["Gains in points, with the same seed, and their mean with its standard error:\n"]
    for setting, base in pairs:
        each, mean, error = gain(content, setting, base)
        listed = ", ".join(f"{value:+.2f}" for value in each)
        lines.append(f"- {setting} against {base}: {mean:+.2f} ± {error:.2f} ({listed})")
    return "\n".join(lines)


def _rates(content: dict[str, Any]) -> str:
    lines = [
        "## Choice of the rate\n",
        "Accuracy on the last tenth of the training split, on which nothing was trained (the dense "
        "model that is converted neither), by peak learning rate; 6,000 images: one standard error "
        "is 0.4 points.\n",
        "| | 0.1 | 0.2 | 0.4 | 0.8 | 1.6 |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for label, name in (
        ("from scratch, 5 epochs", "heldout_smh25_e5_r{}"),
        ("fine-tuned, 2.5 epochs", "heldout_ft25_e2.5_r{}"),
    ):
        found = [content["rows"].get(name.format(rate)) for rate in (0.1, 0.2, 0.4, 0.8, 1.6)]
        cells = [f"{row['test_accuracy']:.2%}" if row else "" for row in found]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _errors(content: dict[str, Any]) -> str:
    converted = [content["rows"][f"fashion_converted_s{seed}"] for seed in rows.SEEDS]
    before = ", ".join(f"{row['test_accuracy']:.1%}" for row in converted)
    lines = [
        "## What the conversion keeps\n",
        f"Test accuracy before any fine-tuning: {before}. Error of each layer as a share of its "
        "norm, seeds 0, 1, 2:\n",
        "| tensor | relative error |",
        "| --- | --- |",
    ]
    for name in converted[0]["relative_errors"]:
        listed = ", ".join(f"{row['relative_errors'][name]:.2f}" for row in converted)
        lines.append(f"| {name} | {listed} |")
    return "\n".join(lines)


def _precisions(content: dict[str, Any]) -> str:
    lines = [
        "## Precision of the pools, SMH at 10%\n",
        "Bytes and test accuracy of the exported file; one seed. Fine-tuned rows went on with "
        "pools rounded to 4 bits. Of the two on Fashion-MNIST the longer was tried after the "
        "shorter had been measured on this test set: its rate and length were not chosen on data "
        "held out.\n",
        "| | the run's own | " + " | ".join(PRECISIONS) + " |",
        "| --- | ---: | " + " | ".join("---:" for _ in PRECISIONS) + " |",
    ]
    for name, exports in content["exports"].items():
        cells = [f"{found['accuracy']:.2%} ({found['bytes']:,} B)" for found in exports.values()]
        own = content["rows"][name]["test_accuracy"]
        label = name.partition("_")[0]
        if name.split("_smh10")[1]:
            tuned = content["rows"][name]
            label += f", fine-tuned at int4 for {tuned['steps']:,} steps"
        lines.append(f"| {label} | {own:.2%} | {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(content: dict[str, Any]) -> Figure:
    """Accuracy by steps, the gain of distillation, and accuracy by bytes."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    steps, gains, sizes = figure.subplots(1, 3)
    for label, marker, color in (
        ("from scratch, half the steps", "o", "#0072b2"),
        ("from scratch", "o", "#0072b2"),
        ("from scratch, twice the rate", "^", "#56b4e9"),
        ("from scratch, distilled", "s", "#009e73"),
        ("converted and fine-tuned, half the steps", "D", "#d55e00"),
        ("the same, distilled", "v", "#cc79a7"),
    ):
        each = accuracies(content, label)
        at = content["rows"][SETTINGS[label].format(0)]["steps"]
        name = None if label.endswith("scratch, half the steps") else label.split(", half")[0]
        steps.plot([at] * len(each), each, marker, color=color, mfc="none", ms=4)
        steps.plot([at], [each.mean()], marker, color=color, label=name)
    steps.set(xlabel="training steps", ylabel="test accuracy (%)", xlim=(900, 2600))
    steps.set_title("SMH at 25%, Fashion-MNIST", fontsize=9)
    steps.legend(fontsize=6, loc="lower right")
    for x, (setting, base) in enumerate(
        (
            ("from scratch, distilled", "from scratch"),
            ("the same, distilled", "converted and fine-tuned, half the steps"),
        )
    ):
        each, mean, error = gain(content, setting, base)
        gains.bar(x, mean, yerr=error, width=0.5, color="#bbbbbb", capsize=4)
        gains.plot([x] * len(each), each, "o", color="#d55e00", ms=4)
    gains.axhline(0, color="black", lw=0.8)
    gains.set_xticks([0, 1], ["from scratch", "fine-tuned"])
    gains.set(ylabel="gain in points", xlim=(-0.6, 1.6))
    gains.set_title("distillation, three seeds", fontsize=9)
    for name, exports in content["exports"].items():
        if name.startswith("digits"):
            continue
        points = [(found["bytes"] / 1024, 100 * found["accuracy"]) for found in exports.values()]
        tuned = name != "fashion_smh10"
        label = f"int4 for {content['rows'][name]['steps']:,} steps" if tuned else "trained"
        sizes.plot(*zip(*points, strict=True), "o-", ms=3, label=label)
    sizes.set(xlabel="file (KiB)", ylabel="test accuracy (%)")
    sizes.set_title("SMH at 10%, pools in fewer bits", fontsize=9)
    sizes.legend(fontsize=6)
    return figure


def write(workdir: pathlib.Path, output: pathlib.Path) -> str:
    """Writes shipping.json, .md, .png and .svg into a folder; returns the Markdown."""
    content = measure(workdir)
    output.mkdir(parents=True, exist_ok=True)
    (output / "shipping.json").write_text(json.dumps(content, indent=2) + "\n")
    markdown = text(content) + "\n"
    (output / "shipping.md").write_text(markdown)
    for suffix in ("png", "svg"):
        picture(content).savefig(output / f"shipping.{suffix}", dpi=150)
    return markdown
