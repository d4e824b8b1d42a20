"""Trains what is left of an experiment.

    python -m experiments.run table1 --scale=reduced --workdir=runs/paper
    python -m experiments.run table3 --scale=paper --workdir=runs/paper --dry_run
    python -m experiments.run experiments/sweeps/blocks.toml --workdir=runs/sweeps
    python -m experiments.run table1 --scale=paper --workdir=gs://BUCKET/paper

Each row and seed has a folder of its own, which tables that hold the same row share. Stopped at any
moment, even killed, the same command resumes; what is done is not repeated, and several of these
commands may share a workdir. A row that needs another row's run is trained after it. A failed run
is tried once more and then reported. The exit code is 75 where runs are left that did not fail.

A workdir in a bucket is for the hosts of a TPU slice, each of which is given the same command: they
go through the runs together (scripts/launch_tpu.sh).
"""

import functools
import signal
import sys

from absl import flags

from experiments import catalogue
from smh_jax import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all experiments.", required=True)
SCALE = flags.DEFINE_enum("scale", "reduced", catalogue.SCALES, "Of a table or figure.")
SEEDS = flags.DEFINE_list("seeds", None, "Of every row, in place of the rows' own.")
ONLY = flags.DEFINE_list("only", None, "Names of rows, with those they need; * is anything.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "List what is left and its cost, and train nothing.")
EXECUTOR = flags.DEFINE_enum("executor", "local", ("local", "ray"), "Where to run.")
WORKERS = flags.DEFINE_integer(
    "workers", 1, "Processes at once of --executor=local.", lower_bound=1
)
PRICE = flags.DEFINE_float(
    "price_per_chip_hour", None, "Of a TPU chip: what is left is priced.", lower_bound=0.0
)
RAY_ADDRESS = flags.DEFINE_string("ray_address", None, "Of a Ray cluster; none starts one here.")


def main(argv: list[str]) -> None:
    """Lists, runs and reports."""
    # They take seconds to load, which a mistake in the flags need not wait for.
    import jax

    from experiments import cost
    from experiments.executors import local, ray
    from experiments.job import in_bucket, jobs, root, split
    from experiments.runner import run_all, select, summary
    from smh_jax.training.workdir import Workdir

    # Accelerators are for the runs, in processes of their own.
    jax.config.update("jax_platforms", "cpu")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(cli.INTERRUPTED))
    experiment = catalogue.load_argument(argv, SCALE.value)
    workdir, shared = root(WORKDIR.value), in_bucket(WORKDIR.value)
    if shared and (EXECUTOR.value != "local" or WORKERS.value > 1):
        raise ValueError(
            f"--workdir={WORKDIR.value} in a bucket is for --executor=local with one worker, "
            "which every host of a TPU slice runs; name a folder on disk"
        )
    Workdir(workdir).check_usable()
    selected = select(jobs(experiment, workdir, _seeds()), ONLY.value)
    if shared and (converted := [job.name for job in selected if job.row.convert_from]):
        raise ValueError(f"--workdir={WORKDIR.value}: {converted[0]} needs a folder on disk")
    for job in selected:
        # Every mistake in a row is found before the first is trained.
        _ = job.config
    done, left = split(selected, set_aside=not (DRY_RUN.value or shared))
    costs = {job: cost.estimate(job) for job in left}
    print(f"{experiment.title} ({experiment.scale}): {len(done)} runs done, {len(left)} left")
    for job in selected:
        print(f"  {job.name:40s} {summary(done[job]) if job in done else costs[job]}")
    for total in cost.totals(costs.values()):
        price = "" if PRICE.value is None else f"; price {total.price(PRICE.value):,.2f}"
        print(f"left: {total}{price}")
    if DRY_RUN.value or not left:
        return
    execute = {
        "local": functools.partial(local.execute, workers=WORKERS.value),
        "ray": functools.partial(ray.execute, address=RAY_ADDRESS.value),
    }[EXECUTOR.value]
    failed = run_all(costs, execute)
    if failed:
        listed = "; ".join(f"{job.name}: {message}" for job, message in failed.items())
        raise ValueError(f"{len(failed)} of {len(selected)} runs failed, twice each: {listed}")
    if not all(job.result_path.exists() for job in left):
        raise SystemExit(cli.INTERRUPTED)


def _seeds() -> tuple[int, ...] | None:
    if SEEDS.value is None:
        return None
    if not all(map(str.isdecimal, SEEDS.value)):
        raise ValueError(f"--seeds={','.join(SEEDS.value)} must be whole numbers, such as 0,1,2")
    return tuple(map(int, SEEDS.value))


if __name__ == "__main__":
    cli.run(main, takes_arguments=True)
