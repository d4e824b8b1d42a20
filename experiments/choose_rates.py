"""Takes the best learning rate of each method from the experiment 'tuning'.

    python -m experiments.run tuning --workdir=runs/paper
    python -m experiments.choose_rates --workdir=runs/paper

Writes `experiments/tables/reduced_rates.json`, with the accuracies on held-out training examples
from which it chose. A best rate at the edge of the search is refused: extend the search there.
"""

import json
import pathlib

from absl import flags, logging

from experiments import catalogue, records
from experiments.tables import reduced, tuning
from experiments.tables.kinds import KINDS
from smh_jax import cli
from smh_jax.config.files import write_json

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all experiments.", required=True)


def main(_: list[str]) -> None:
    """Chooses and writes."""
    experiment = catalogue.load("tuning", "reduced")
    found = records.collect(experiment, pathlib.Path(WORKDIR.value).resolve())
    left = [record.row.name for record in found if not record.runs]
    if left:
        raise ValueError(f"'tuning' is not complete, run it first: {', '.join(left)} are left")
    accuracy = {record.row.name: record.runs[0]["test_accuracy"] for record in found}
    tried = {
        kind: {rate: accuracy[tuning.name_of(kind, rate)] for rate in tuning.rates_of(kind)}
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
