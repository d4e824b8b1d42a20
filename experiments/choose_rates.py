"""Takes the best learning rate of each method from the experiment 'tuning'.

    python -m experiments.run tuning --workdir=runs/paper
    python -m experiments.choose_rates --workdir=runs/paper

Writes `experiments/tables/reduced_rates.json`, with the accuracies on held-out training examples
from which it chose. A best rate at the edge of the search is refused: the search must go on there.
"""

import json
import pathlib

from absl import flags, logging

from experiments import catalogue
from experiments.job import jobs, split
from experiments.tables import reduced, tuning
from experiments.tables.kinds import KINDS
from smh_jax import cli
from smh_jax.config.files import write_json

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all experiments.", required=True)


def main(_: list[str]) -> None:
    """Chooses and writes."""
    workdir = pathlib.Path(WORKDIR.value).resolve()
    all_jobs = jobs(catalogue.load("tuning", "reduced"), workdir, None)
    done, left = split(all_jobs)
    if left:
        raise ValueError(f"{len(left)} of {len(all_jobs)} runs of 'tuning' are left; run it first")
    found = {job.row.name: result["test_accuracy"] for job, result in done.items()}
    tried = {
        kind: {rate: found[tuning.name_of(kind, rate)] for rate in tuning.rates_of(kind)}
        for kind in KINDS
    }
    chosen = {}
    for kind, accuracies in tried.items():
        try:
            chosen[kind] = tuning.choose(accuracies)
        except ValueError as error:
            raise ValueError(f"{kind}: {error}; extend experiments/tables/tuning.py") from error
        logging.info("%s: %g of %s", kind, chosen[kind], json.dumps(accuracies))
    write_json(reduced.RATES, {"learning_rate": chosen, "held_out_accuracy": tried})


if __name__ == "__main__":
    cli.run(main)
