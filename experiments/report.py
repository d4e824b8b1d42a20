"""Reports an experiment: a Markdown table and pictures, the paper's numbers alongside ours.

    python -m experiments.report table1 --workdir=runs/paper
    python -m experiments.report table1
    python -m experiments.report table1 --html --output=/tmp

With a workdir the results are taken from there, and written as JSON to `experiments/results/`, of
an ablation to the workdir; without, those that are there are reported again. Rows that were not
trained are shown as missing. With --html the report is one page whose tables sort and whose plots
zoom, in place of Markdown and pictures.
"""

import functools
import pathlib

from absl import flags

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
HTML = flags.DEFINE_bool("html", False, "One page for browsers, which needs no network.")


def main(argv: list[str]) -> None:
    """Reports one experiment."""
    cli.require("plotly" if HTML.value else "matplotlib", "plot")
    experiment = catalogue.load_argument(argv, SCALE.value)
    # They take seconds to load, which a mistake in the flags need not wait for.
    from experiments import records, render
    from experiments.job import root

    path_of = functools.partial(records.path_of, experiment, _output(experiment.scale))
    if WORKDIR.value is None:
        own, committed = path_of(".json"), records.path_of(experiment, RESULTS, ".json")
        results = records.read(experiment, own if own.exists() else committed)
    else:
        results = records.collect(experiment, root(WORKDIR.value))
        if not any(record.runs for record in results):
            raise ValueError(
                f"--workdir={WORKDIR.value} holds no result of {experiment.name} at scale "
                f"{experiment.scale!r}; train it with experiments.run"
            )
        path_of("").parent.mkdir(parents=True, exist_ok=True)
        records.write(experiment, results, path_of(".json"))
    text = render.page(experiment, results)
    print(text)
    path_of("").parent.mkdir(parents=True, exist_ok=True)
    if HTML.value:
        write_text(path_of(".html"), render.html(experiment, results))
        endings = ".html"
    else:
        from experiments import plots

        write_text(path_of(".md"), text)
        plots.save(experiment, results, path_of(""))
        endings = ".md, .png, .svg"
    print(f"written: {path_of('')} with {endings}")


def _output(scale: str) -> pathlib.Path:
    if OUTPUT.value is not None:
        return pathlib.Path(OUTPUT.value)
    # What is committed are the paper's tables; an ablation is its owner's.
    is_own = scale == "sweep" and WORKDIR.value is not None
    if is_own and "://" in WORKDIR.value:
        raise ValueError(
            f"--workdir={WORKDIR.value} is in a bucket: give --output, a folder on disk"
        )
    return pathlib.Path(WORKDIR.value) / "reports" if is_own else RESULTS


if __name__ == "__main__":
    cli.run(main, takes_arguments=True)
