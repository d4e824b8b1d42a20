"""Which runs of an experiment are left, and running them, each after those that it needs."""

import collections
import fnmatch
import graphlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import logging

from experiments.cost import Cost
from experiments.executors.process import Outcome
from experiments.job import CorruptResultError, Job

# Starts the jobs of a queue from the left, see `experiments.executors`.
Execute = Callable[[collections.deque[Job]], Iterator[Outcome]]


def select(all_jobs: list[Job], patterns: Sequence[str] | None) -> list[Job]:
    """The jobs whose rows' names match, with those that they need; all of them for None.

    Raises:
        ValueError: if nothing matches, or a needed row is not trained with a job's seed.
    """
    by_name = {job.name: job for job in all_jobs}
    asked = ["*"] if patterns is None else patterns
    queue = [job for job in all_jobs if any(fnmatch.fnmatch(job.row.name, p) for p in asked)]
    if not queue:
        known = ", ".join(dict.fromkeys(job.row.name for job in all_jobs))
        raise ValueError(f"--only={','.join(patterns)} matches no row; there are {known}")
    selected = set()
    while queue:
        job = queue.pop()
        missing = [name for name in job.needs if name not in by_name]
        if missing:
            raise ValueError(f"{job.name} needs {', '.join(missing)}: give both rows this seed")
        if job not in selected:
            selected.add(job)
            queue += [by_name[name] for name in job.needs]
    return [job for job in all_jobs if job in selected]


def run_all(costs: dict[Job, Cost], execute: Execute) -> dict[Job, str]:
    """Runs the jobs that are left, failed ones twice; logs progress.

    Returns:
        Why jobs failed the second time.
    """
    by_name = {job.name: job for job in costs}
    needs = {job: [by_name[name] for name in job.needs if name in by_name] for job in costs}
    order = graphlib.TopologicalSorter(needs)
    order.prepare()
    queue = collections.deque(order.get_ready())
    failed: dict[Job, str] = {}
    tried: set[Job] = set()
    hours = {job: cost.device_hours for job, cost in costs.items()}
    all_hours, begin = sum(hours.values()), time.monotonic()
    for outcome in execute(queue):
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
        elif outcome.interrupted and not job.result_path.exists():
            logging.warning("%s was left to another process, or was told to end", job.name)
        else:
            try:
                logging.info("%s: %s", job.name, summary(job.result()))
            except CorruptResultError as error:
                failed[job] = str(error)
                logging.error("%s failed: %s", job.name, error)
            else:
                order.done(job)
                queue.extend(order.get_ready())
        # Of the estimated cost, not of the number of runs, which may differ much in size.
        share = 1 - sum(hours.values()) / all_hours
        seconds = time.monotonic() - begin
        logging.info(
            "%d of %d runs ended (%.0f%% of the work), ETA %.1f minutes",
            *(len(costs) - len(hours), len(costs), 100 * share),
            seconds * (1 - share) / share / 60,
        )
    for job in hours:
        logging.warning("%s was not started: it needs %s", job.name, ", ".join(job.needs))
    return failed


def summary(result: dict[str, Any]) -> str:
    """What a run has reached, in a word."""
    return f"{100 * result['test_accuracy']:.2f}%" if "test_accuracy" in result else "converted"
