"""Reports an experiment: a Markdown table, CSV and a picture, the paper's numbers alongside ours.

    python -m experiments.report table1 --workdir=runs/paper
    python -m experiments.report table1

With a workdir the results are taken from there, and committed to `experiments/results/` as JSON;
without, the committed ones are reported again. Rows that were not trained are shown as missing.
"""

import pathlib

from absl import flags

from experiments import catalogue, records, render
from smh_jax import cli
from smh_jax.config.files import write_text

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Of experiments.run; None reports what is committed."
)
SCALE = flags.DEFINE_enum("scale", "reduced", catalogue.SCALES, "Of a table or figure.")
OUTPUT = flags.DEFINE_string("output", str(records.RESULTS), "Folder of the reports.")


def main(argv: list[str]) -> None:
    """Reports one experiment."""
    cli.require("matplotlib", "plot")
    if len(argv) != 2:
        raise ValueError(f"name one experiment: {', '.join(catalogue.names())}, or a .toml file")
    experiment = catalogue.load(argv[1], SCALE.value)
    folder = pathlib.Path(OUTPUT.value)
    path = records.path_of(experiment, folder, ".json")
    if WORKDIR.value is None:
        found = records.read(experiment, path)
    else:
        found = records.collect(experiment, pathlib.Path(WORKDIR.value).resolve())
        if not any(record.runs for record in found):
            raise ValueError(
                f"--workdir={WORKDIR.value} holds no result of {experiment.name} at scale "
                f"{experiment.scale!r}; train it with experiments.run"
            )
        folder.mkdir(parents=True, exist_ok=True)
        records.write(experiment, found, path)
    text = render.page(experiment, found)
    write_text(records.path_of(experiment, folder, ".md"), text)
    write_text(records.path_of(experiment, folder, ".csv"), render.comma_separated(found))
    # Matplotlib is loaded only where it is needed, by those who have installed it.
    from experiments import plots

    plots.save(experiment, found, records.path_of(experiment, folder, ""))
    print(text)


if __name__ == "__main__":
    cli.run(main)
