"""Trains a run: python -m smh_jax.main --config=configs/digits.py --workdir=runs/digits

The exit code is 0 when the run is complete, and 75 when it was told to end before (SIGTERM) and the
same command will resume it.
On several hosts the same command runs on each of them, with a workdir that all of them see. Those
of a TPU slice find each other; others are told where, by the three flags that say so.
"""

import json
from collections.abc import Mapping
from typing import Any

from absl import flags, logging
from ml_collections import config_flags

from smh_jax import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
CONFIG = config_flags.DEFINE_config_file("config", None, "What to train.", lock_config=True)
COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "host:port of process 0, for several processes without TPUs."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.", lower_bound=0)
flags.mark_flag_as_required("config")


def sentence(result: Mapping[str, Any], workdir: str) -> str:
    """What a run has reached, in a sentence."""
    from smh_jax.training import tasks

    if "tasks" in result:
        each = (f"{of['task']} {of['accuracy']:.2%}" for of in result["tasks"])
        headline = f"test accuracy of {', '.join(each)}"
    else:
        headline = tasks.of_name(result.get("task", tasks.DEFAULT.name)).headline(result)
    variables, weights = result["num_variables"], result["num_weights"]
    return (
        f"{workdir}: {headline}, with {variables:,} variables for {weights:,} weights "
        f"({variables / weights:.1%}), after {result['train_seconds']:.0f} seconds of training"
    )


def main(_: list[str]) -> None:
    """Trains and prints the result."""
    # They take seconds to load, which a mistake in the flags need not wait for.
    import jax

    from smh_jax.training import processes

    processes.initialize(COORDINATOR_ADDRESS.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if jax.process_index():
        cli.say_only_warnings()
    from smh_jax.training.loop import train_and_evaluate

    result = train_and_evaluate(CONFIG.value, WORKDIR.value)
    if result is None:
        logging.info("the same command resumes from here")
        raise SystemExit(cli.INTERRUPTED)
    if jax.process_index() == 0:
        logging.info("%s", sentence(result, WORKDIR.value))
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    cli.run(main)
