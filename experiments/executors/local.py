"""Runs jobs in processes on this machine, each on its own share of the cores."""

import collections
import os
import signal
import subprocess
import time
from collections.abc import Iterator

from absl import logging

from experiments.executors.process import Outcome, outcome, start
from experiments.job import Job

_POLL_SECONDS = 0.2


def execute(queue: collections.deque[Job], workers: int) -> Iterator[Outcome]:
    """Runs jobs, `workers` at a time; see `experiments.executors`.

    The cores are dealt out to the workers; with one worker a job has the whole machine, as on an
    accelerator. When the caller stops or is interrupted, running jobs are told to end: they save
    what they have.

    Raises:
        ValueError: for more workers than cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= workers <= len(cores):
        raise ValueError(f"--workers={workers} must be within 1 and {len(cores)}, the cores here")
    free = [cores[worker::workers] for worker in range(workers)]
    active: dict[Job, tuple[subprocess.Popen, list[int]]] = {}
    try:
        while queue or active:
            while queue and free:
                job = queue.popleft()
                process = start(job, cores=free[0], wait=False)
                if process is None:
                    yield Outcome(job, interrupted=True)
                else:
                    logging.info("%s starts on cores %s", job.name, free[0])
                    active[job] = process, free.pop(0)
            time.sleep(_POLL_SECONDS)
            for job, (process, share) in list(active.items()):
                if process.poll() is not None:
                    del active[job]
                    free.append(share)
                    yield outcome(job, process.returncode)
    finally:
        for process, _ in active.values():
            process.send_signal(signal.SIGTERM)
        for process, _ in active.values():
            process.wait()
