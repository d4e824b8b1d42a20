"""Reports an experiment: a Markdown table and a picture, the paper's numbers alongside ours.

    python -m experiments.report table1 --workdir=runs/paper
    python -m experiments.report table1

With a workdir the results are taken from there, and committed to `experiments/results/` as JSON;
without, the committed ones are reported again. Rows that were not trained are shown as missing.
"""

import functools
import pathlib

from absl import flags, logging

from experiments import catalogue
from experiments.row import ROOT
from smh_jax import cli
from smh_jax.config.files import write_text

RESULTS = ROOT / "experiments" / "results"

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Of experiments.run; None reports what is committed."
)
SCALE = flags.DEFINE_enum("scale", "reduced", catalogue.SCALES, "Of a table or figure.")
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Folder of the reports; by default experiments/results, of an ablation WORKDIR/reports.",
)


def main(argv: list[str]) -> None:
    """Reports one experiment."""
    cli.require("matplotlib", "plot")
    experiment = catalogue.load_argument(argv, SCALE.value)
    # Matplotlib is loaded only where it is needed, by those who have installed it.
    from experiments import plots, records, render

    path_of = functools.partial(records.path_of, experiment, _output(experiment.scale))
    if WORKDIR.value is None:
        results = records.read(experiment, path_of(".json"))
    else:
        results = records.collect(experiment, pathlib.Path(WORKDIR.value).resolve())
        if not any(record.runs for record in results):
            raise ValueError(
                f"--workdir={WORKDIR.value} holds no result of {experiment.name} at scale "
                f"{experiment.scale!r}; train it with experiments.run"
            )
        path_of("").parent.mkdir(parents=True, exist_ok=True)
        records.write(experiment, results, path_of(".json"))
    text = render.page(experiment, results)
    write_text(path_of(".md"), text)
    plots.save(experiment, results, path_of(""))
    print(text)
    logging.info("written: %s with .md, .png, .svg", path_of(""))


def _output(scale: str) -> pathlib.Path:
    if OUTPUT.value is not None:
        return pathlib.Path(OUTPUT.value)
    # What is committed are the paper's tables; an ablation is its owner's.
    is_own = scale == "sweep" and WORKDIR.value is not None
    return pathlib.Path(WORKDIR.value) / "reports" if is_own else RESULTS


if __name__ == "__main__":
    cli.run(main, takes_arguments=True)
