"""Runs jobs on a Ray cluster: the one at `address`, or one of this machine's own.

The workdir must be one that all machines of the cluster see, and the project must lie at the same
path on each. A run whose worker or machine is lost is started again elsewhere by Ray, and goes on
from its last checkpoint.
"""

import collections
import importlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from experiments.executors.process import Outcome, outcome, start
from experiments.job import Job

# How often Ray starts a run again whose worker was lost, before it counts as failed.
_MAX_RESTARTS = 3


def execute(queue: collections.deque[Job], address: str | None) -> Iterator[Outcome]:
    """Runs jobs, as many at once as the cluster has room for; see `experiments.executors`.

    Args:
        queue: of jobs; each takes the resources that its row names.
        address: of a running cluster, 'auto' to find it, or None to start one on this machine.

    Raises:
        ValueError: if Ray is not installed, or no cluster is at the address.
    """
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise ValueError("--executor=ray needs Ray: pip install -e '.[ray]'") from error
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=address, **({} if address else {"include_dashboard": False}))
        except ConnectionError as error:
            raise ValueError(f"--ray_address={address!r}: {error}") from error
    # A worker process per job: the end of one leaves nothing behind for the next.
    run = ray.remote(max_retries=_MAX_RESTARTS, max_calls=1)(_run)
    active: dict[Any, Job] = {}
    try:
        while queue or active:
            while queue:
                job = queue.popleft()
                resources = dict(job.row.resources)
                options = run.options(
                    num_cpus=resources.pop("CPU", 1),
                    num_gpus=resources.pop("GPU", 0),
                    resources=resources,
                    name=job.name,
                )
                active[options.remote(job.command()[1:], os.fspath(job.workdir))] = job
            (task,), _ = ray.wait(list(active))
            job = active.pop(task)
            try:
                yield outcome(job, ray.get(task))
            except ray.exceptions.RayError as error:
                yield Outcome(job, f"lost: {str(error).splitlines()[0]}")
    finally:
        for task in active:
            ray.cancel(task)
        if started:
            ray.shutdown()


def _run(arguments: tuple[str, ...], workdir: str) -> int:
    """The exit code of a job's process, on the machine that Ray chose."""
    # The process of a lost worker may still be saving.
    process = start(arguments, pathlib.Path(workdir), wait=True)
    try:
        return process.wait()
    finally:
        # Ray interrupts a cancelled task here; the run saves what it has.
        process.terminate()
        process.wait()
