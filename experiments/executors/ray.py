"""Runs jobs on a Ray cluster: the one at `address`, or one of this machine's own.

The workdir must be one that all machines of the cluster see, and the project must lie at the same
path on each. A job takes one machine's resources, or a whole TPU slice, on each host of which one
process of the run is started. A run whose worker or machine is lost is started again, and resumes
from its last checkpoint.
"""

import collections
import concurrent.futures
import importlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from absl import logging

from experiments.executors.process import INTERRUPTED, Outcome, outcome, start
from experiments.job import Job

# How often a run is started again whose worker was lost, before it counts as failed.
_MAX_RESTARTS = 3
# TPU slices at once.
_MAX_SLICES = 64
_POLL_SECONDS = 1.0
_RESERVE_SECONDS = 10.0
_WORKER_ID = "ray.io/tpu-worker-id"

# Exit code of a job and the process that gave it.
Ended = tuple[int, int]


def execute(queue: collections.deque[Job], address: str | None) -> Iterator[Outcome]:
    """Runs jobs, as many at once as the cluster has room for; see `experiments.executors`.

    Args:
        queue: of jobs; each takes the resources or the TPU slice that its row names.
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
    run = ray.remote(max_retries=_MAX_RESTARTS, max_calls=1)(_run_process)
    active: dict[concurrent.futures.Future[Ended], Job] = {}
    tasks, stop = [], threading.Event()
    threads = concurrent.futures.ThreadPoolExecutor(_MAX_SLICES)
    try:
        while queue or active:
            while queue:
                job = queue.popleft()
                if job.row.tpu_slice is None:
                    tasks.append(run.options(**_options(job.row.resources, job.name)).remote(job))
                    future = tasks[-1].future()
                else:
                    future = threads.submit(_run_on_slice, ray, job, stop)
                active[future] = job
            ended, _ = concurrent.futures.wait(
                active, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in ended:
                job = active.pop(future)
                try:
                    yield outcome(job, *future.result())
                except ray.exceptions.RayError as error:
                    yield Outcome(job, f"lost: {str(error).splitlines()[0]}")
    finally:
        stop.set()
        for task in tasks:
            ray.cancel(task)
        threads.shutdown()
        if started:
            ray.shutdown()


def _options(resources: dict[str, float], name: str) -> dict[str, Any]:
    """Options of a Ray task that takes these resources."""
    others = {key: value for key, value in resources.items() if key not in ("CPU", "GPU")}
    return {
        "num_cpus": resources.get("CPU", 1),
        "num_gpus": resources.get("GPU", 0),
        "resources": others,
        "name": name,
    }


def _run_process(job: Job, flags: tuple[str, ...] = (), process_id: int = 0) -> Ended:
    """Runs a process of a job to its end, on the machine that Ray chose."""
    # The process of a lost worker may still be saving.
    process = start(job, flags=flags, process_id=process_id, wait=True)
    try:
        return process.wait(), process_id
    finally:
        # Ray interrupts a canceled task here; the run saves what it has.
        process.terminate()
        process.wait()


def _run_on_slice(ray: Any, job: Job, stop: threading.Event) -> Ended:
    """Runs a job on every host of a TPU slice, and again on another slice if a host is lost.

    Args:
        ray: the module.
        job: whose row names the slice.
        stop: ends the run when it is set.

    Raises:
        RayError: if hosts are lost more often than a run is started again.
    """
    for restarts in range(_MAX_RESTARTS + 1):
        group = _reserve_slice(job, stop)
        if group is None:
            break
        try:
            return _run_on_hosts(ray, job, group, stop)
        except ray.exceptions.RayError as error:
            if restarts == _MAX_RESTARTS:
                raise
            logging.warning("%s has lost a host and starts again: %s", job.name, error)
        finally:
            group.shutdown()
    return INTERRUPTED, 0


def _reserve_slice(job: Job, stop: threading.Event) -> Any | None:
    """A slice as Ray's placement group, bundle i on the TPU worker i; None if told to stop."""
    tpu = importlib.import_module("ray.util.tpu")
    topology, version = job.row.tpu_slice.topology, job.row.tpu_slice.version
    num_hosts, resources = tpu.get_tpu_worker_resources(topology, version)
    while not stop.is_set():
        try:
            return tpu.slice_placement_group(
                topology,
                version,
                resources_per_bundle=resources,
                strategy="STRICT_SPREAD",
                bundle_label_selector=[{_WORKER_ID: str(host)} for host in range(num_hosts)],
                head_reservation_timeout_s=_RESERVE_SECONDS,
            )
        except TimeoutError:
            logging.log_first_n(logging.INFO, "%s waits for a TPU slice", 1, job.name)
    return None


def _run_on_hosts(ray: Any, job: Job, group: Any, stop: threading.Event) -> Ended:
    """Runs one process on each host; if one fails or is lost, or on `stop`, all are ended."""
    strategies = importlib.import_module("ray.util.scheduling_strategies")

    def on_host(function: Any, host: int, resources: dict[str, float]) -> Any:
        return (
            ray.remote(max_retries=0, max_calls=1)(function)
            .options(
                **_options(resources, f"{job.name}, host {host}"),
                scheduling_strategy=strategies.PlacementGroupSchedulingStrategy(
                    group.placement_group, placement_group_bundle_index=host
                ),
            )
            .remote
        )

    address = ray.get(on_host(_free_address, 0, {"CPU": 0})())
    tasks = {}
    for host in range(group.num_hosts):
        flags = (
            f"--coordinator_address={address}",
            f"--num_processes={group.num_hosts}",
            f"--process_id={host}",
        )
        tasks[on_host(_run_process, host, group.bundle_resources)(job, flags, host)] = host
    left, decisive, lost, canceled = list(tasks), (0, 0), None, False
    while left:
        ended, left = ray.wait(left, timeout=_POLL_SECONDS)
        for task in ended:
            try:
                code, host = ray.get(task)
            except ray.exceptions.TaskCancelledError:
                code, host = INTERRUPTED, tasks[task]
            except ray.exceptions.RayError as error:
                code, host, lost = INTERRUPTED, tasks[task], error
            if code and not decisive[0]:
                decisive = code, host
        if (decisive[0] or stop.is_set()) and not canceled:
            # Once only: a second interrupt would leave a process that is still saving.
            canceled = True
            for task in left:
                ray.cancel(task)
    if lost and not stop.is_set():
        raise lost
    return decisive


def _free_address() -> str:
    """This machine's address and a free port, at which a run's processes meet."""
    ray = importlib.import_module("ray")
    with socket.socket() as listener:
        listener.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{listener.getsockname()[1]}"
