"""What conversion, distillation and fewer bits cost or gain in accuracy.

    python -m experiments.shipping --workdir=runs/shipping

Trains every row of `rows.py` through the ordinary trainer, each in a folder of its own; what is
complete is not repeated. Then measures exports, and writes tables and plots, of which
`experiments/results` has a copy. About two hours on 2 idle CPU cores.
"""

import pathlib
import re

from absl import flags, logging

from experiments.shipping import report, rows
from smh_jax import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.", required=True)
ONLY = flags.DEFINE_string("only", "", "Regular expression of the rows to run; no report then.")
OUTPUT = flags.DEFINE_string("output", "experiments/results", "Folder of tables and plots.")


def main(_: list[str]) -> None:
    """Runs what is left, and reports."""
    workdir = pathlib.Path(WORKDIR.value)
    chosen = {name: row for name, row in rows.rows().items() if re.search(ONLY.value, name)}
    if not chosen:
        raise ValueError(f"--only={ONLY.value!r} matches none of {', '.join(rows.rows())}")
    for number, (name, row) in enumerate(chosen.items(), start=1):
        logging.info("%s (%d of %d)", name, number, len(chosen))
        if not rows.run(name, row, workdir):
            logging.info("told to end; the same command goes on from here")
            return
    if not ONLY.value:
        print(report.write(workdir, pathlib.Path(OUTPUT.value)))


if __name__ == "__main__":
    cli.run(main)
