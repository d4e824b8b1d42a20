"""Accuracy of every method at one budget.

    python -m experiments.compare_methods --workdir=runs/compare

Trains the digits with each method at the same target size through the ordinary trainer, each in a
folder of its own; what is complete is not repeated. Prints a table and writes it beside the runs.
"""

import pathlib
from typing import Any

from absl import flags, logging

from configs import digits
from smh_jax import cli, methods, train
from smh_jax.config import from_config_dict

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.", required=True)
TARGET_SIZE = flags.DEFINE_integer("target_size", 27_000, "Variables of every method.")
SEED = flags.DEFINE_integer("seed", 0, "Of every run.")
METHODS = flags.DEFINE_list("methods", None, "Labels to run; all by default.")

# Settings that deserve a row of their own, beside each method's defaults.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "smh, Kronecker": ("smh", {"layout": "kronecker"}),
    "smh, 4 blocks": ("smh", {"blocks": 4}),
    "smh, fixed scale": ("smh", {"scale": "fixed"}),
    "smh, scale per channel": ("smh", {"scale_per": "channel"}),
    "2 hashes": ("multi_hash", {"num_hashes": 2}),
    "10 hashes": ("multi_hash", {"num_hashes": 10}),
    "HashedNets": ("multi_hash", {"signs": True, "per_layer": True}),
}


def settings() -> dict[str, tuple[str, dict[str, Any]]]:
    """Method and options by label."""
    return {name: (name, {}) for name in methods.names()} | VARIANTS


def config(name: str, options: dict[str, Any], target_size: int, seed: int):
    """The digits config with a method's options."""
    content = digits.get_config(f"method={name},target_size={target_size},seed={seed}").to_dict()
    content["method"]["options"] |= options
    return from_config_dict(content)


def table(results: dict[str, dict[str, Any]]) -> str:
    """A Markdown table of results by label."""
    lines = ["| method | variables | of all | test accuracy |", "| --- | ---: | ---: | ---: |"]
    for label, result in results.items():
        share = result["num_variables"] / result["num_weights"]
        lines.append(
            f"| {label} | {result['num_variables']:,} | {share:.1%} "
            f"| {100 * result['test_accuracy']:.2f}% |"
        )
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Runs what is left and prints the table."""
    known = settings()
    labels = METHODS.value or list(known)
    for label in labels:
        if label not in known:
            raise ValueError(f"--methods: {label!r} is unknown; known are {', '.join(known)}")
    results = {}
    workdir = pathlib.Path(WORKDIR.value)
    for number, label in enumerate(labels, start=1):
        logging.info("%s (%d of %d)", label, number, len(labels))
        folder = label.replace(", ", "_").replace(" ", "_")
        run = config(*known[label], TARGET_SIZE.value, SEED.value)
        result = train.train_and_evaluate(run, workdir / folder)
        if result is None:
            logging.info("told to end; the same command goes on from here")
            return
        results[label] = result
    (workdir / "table.md").write_text(table(results) + "\n")
    print(table(results))


if __name__ == "__main__":
    cli.run(main)
