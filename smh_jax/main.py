"""Trains a run: python -m smh_jax.main --config=configs/digits.py --workdir=runs/digits"""

import json

from absl import flags, logging
from ml_collections import config_flags

from smh_jax import cli, train

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
CONFIG = config_flags.DEFINE_config_file("config", None, "What to train.", lock_config=True)
flags.mark_flag_as_required("config")


def main(_: list[str]) -> None:
    """Trains and prints the result."""
    result = train.train_and_evaluate(CONFIG.value, WORKDIR.value)
    if result is None:
        logging.info("the same command goes on from here")
    else:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    cli.run(main)
