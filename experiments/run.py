"""Trains what is left of an experiment.

    python -m experiments.run table1 --scale=reduced --workdir=runs/paper
    python -m experiments.run table3 --scale=paper --workdir=runs/paper --dry_run
    python -m experiments.run experiments/sweeps/blocks.toml --workdir=runs/sweeps

Each row and seed has a folder of its own, which tables that hold the same row share. Stopped at any
moment, be it killed, the same command goes on; what is done is not repeated, and several of these
commands may share a workdir. A failed run is tried once more and then reported.
"""

import collections
import fnmatch
import pathlib
import signal
import sys
import time
from collections.abc import Iterator

from absl import flags, logging

from experiments import catalogue, cost
from experiments.executors import local, ray
from experiments.executors.process import Outcome
from experiments.job import Job, jobs, split
from smh_jax import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all experiments.", required=True)
SCALE = flags.DEFINE_enum("scale", "reduced", catalogue.SCALES, "Of a table or figure.")
SEEDS = flags.DEFINE_list("seeds", None, "Of every row, in place of the rows' own.")
ONLY = flags.DEFINE_list("only", None, "Names of rows; * stands for anything.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "List what is left and its cost, and train nothing.")
EXECUTOR = flags.DEFINE_enum("executor", "local", ("local", "ray"), "Where to run.")
WORKERS = flags.DEFINE_integer("workers", 1, "Processes at once of --executor=local.")
RAY_ADDRESS = flags.DEFINE_string("ray_address", None, "Of a Ray cluster; none starts one here.")


def main(argv: list[str]) -> None:
    """Lists, runs and reports."""
    if len(argv) != 2:
        raise ValueError(f"name one experiment: {', '.join(catalogue.names())}, or a .toml file")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    experiment = catalogue.load(argv[1], SCALE.value)
    selected = [
        job
        for job in jobs(experiment, pathlib.Path(WORKDIR.value).resolve(), _seeds())
        if ONLY.value is None or any(fnmatch.fnmatch(job.row.name, name) for name in ONLY.value)
    ]
    if not selected:
        known = ", ".join(row.name for row in experiment.rows)
        raise ValueError(f"--only={','.join(ONLY.value)} matches no row; there are {known}")
    for job in selected:
        # Every mistake in a row is found before the first is trained.
        _ = job.config
    done, left = split(selected)
    costs = {job: cost.estimate(job) for job in left}
    print(f"{experiment.title} ({experiment.scale}): {len(done)} runs done, {len(left)} left")
    for job in selected:
        what = f"{100 * done[job]['test_accuracy']:.2f}%" if job in done else _cost_line(costs[job])
        print(f"  {job.name:40s} {what}")
    _print_total(list(costs.values()))
    if DRY_RUN.value or not left:
        return
    failed = run_all(left, costs)
    if failed:
        listed = "\n".join(f"  {job.name}: {message}" for job, message in failed.items())
        raise ValueError(f"{len(failed)} of {len(selected)} runs failed, twice each:\n{listed}")


def run_all(left: list[Job], costs: dict[Job, cost.Cost]) -> dict[Job, str]:
    """Runs jobs, failed ones twice; logs progress.

    Returns:
        Why jobs failed the second time.
    """
    queue = collections.deque(left)
    failed: dict[Job, str] = {}
    tried: set[Job] = set()
    hours = {job: costs[job].device_hours for job in left}
    all_hours, begin = sum(hours.values()), time.monotonic()
    for outcome in _execute(queue):
        job = outcome.job
        if outcome.message and job not in tried:
            tried.add(job)
            logging.warning("%s failed and is tried once more: %s", job.name, outcome.message)
            queue.append(job)
            continue
        hours.pop(job)
        if outcome.message:
            failed[job] = outcome.message
            logging.error("%s failed: %s", job.name, outcome.message)
        elif outcome.interrupted:
            logging.warning("%s was left to another process, or was told to end", job.name)
        else:
            accuracy = 100 * job.result()["test_accuracy"]
            logging.info("%s: %.2f%%", job.name, accuracy)
        # Of the estimated cost, not of the number of runs, which may differ much in size.
        share = 1 - sum(hours.values()) / all_hours
        seconds = time.monotonic() - begin
        logging.info(
            "%d of %d runs ended (%.0f%% of the work), ETA %.1f minutes",
            *(len(left) - len(hours), len(left), 100 * share),
            seconds * (1 - share) / share / 60,
        )
    return failed


def _execute(queue: collections.deque[Job]) -> Iterator[Outcome]:
    if EXECUTOR.value == "ray":
        return ray.execute(queue, RAY_ADDRESS.value)
    return local.execute(queue, WORKERS.value)


def _seeds() -> tuple[int, ...] | None:
    if SEEDS.value is None:
        return None
    if not all(seed.isdecimal() for seed in SEEDS.value):
        raise ValueError(f"--seeds={','.join(SEEDS.value)} must be whole numbers, such as 0,1,2")
    return tuple(int(seed) for seed in SEEDS.value)


def _cost_line(estimate: cost.Cost) -> str:
    return f"{estimate.steps} steps, about {_hours(estimate.device_hours)} of one {estimate.device}"


def _print_total(estimates: list[cost.Cost]) -> None:
    for device in sorted({estimate.device for estimate in estimates}):
        on = [estimate for estimate in estimates if estimate.device == device]
        print(
            f"left: {len(on)} runs, {sum(estimate.steps for estimate in on)} steps, "
            f"about {_hours(sum(estimate.device_hours for estimate in on))} of one {device}"
        )


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


if __name__ == "__main__":
    cli.run(main)
