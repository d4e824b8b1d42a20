"""Runs jobs on a Ray cluster: the one at `address`, or one of this machine's own.

The workdir must be one that all machines of the cluster see, and the project must lie at the same
path on each. A job takes one machine's resources, or a whole TPU slice, on each host of which one
process of the run is started. A run whose worker or machine is lost is started again, and resumes
from its last checkpoint.
"""

import collections
import concurrent.futures
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from absl import logging

from experiments.executors.process import INTERRUPTED, Outcome, outcome, start
from experiments.job import Job

# How often a run is started again whose worker was lost, before it counts as failed.
_MAX_RESTARTS = 3
# Jobs that run or wait for room at once, a thread each.
_MAX_JOBS = 1000
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
        import ray
    except ModuleNotFoundError as error:
        raise ValueError("--executor=ray needs Ray: pip install -e '.[ray]'") from error
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=address, **({} if address else {"include_dashboard": False}))
        except ConnectionError as error:
            raise ValueError(f"--ray_address={address!r}: {error}") from error
    threads, stop = concurrent.futures.ThreadPoolExecutor(_MAX_JOBS), threading.Event()
    active: dict[concurrent.futures.Future[Ended], Job] = {}
    try:
        while queue or active:
            while queue:
                job = queue.popleft()
                active[threads.submit(_run, job, stop)] = job
            ended, _ = concurrent.futures.wait(active, return_when="FIRST_COMPLETED")
            for future in ended:
                job = active.pop(future)
                try:
                    yield outcome(job, *future.result())
                except ray.exceptions.RayError as error:
                    yield Outcome(job, f"lost: {str(error).splitlines()[0]}")
    finally:
        stop.set()
        threads.shutdown()
        if started:
            ray.shutdown()


def _run(job: Job, stop: threading.Event) -> Ended:
    """Runs a job on a machine or a TPU slice, and again on another if a host is lost.

    It ends when `stop` is set.

    Raises:
        RayError: if hosts are lost more often than a run is started again.
    """
    import ray

    for restarts in range(_MAX_RESTARTS + 1):
        group = None
        try:
            if job.row.tpu_slice is None:
                return _run_on_hosts(job, [_options(job.row.resources)], stop)
            group = _reserve_slice(job, stop)
            if group is None:
                break
            return _run_on_hosts(job, _host_options(group), stop)
        except ray.exceptions.RayError as error:
            if restarts == _MAX_RESTARTS:
                raise
            logging.warning("%s has lost a host and starts again: %s", job.name, error)
        finally:
            if group is not None:
                group.shutdown()
    return INTERRUPTED, 0


def _options(resources: Mapping[str, float]) -> dict[str, Any]:
    """Options of a Ray task that takes these resources."""
    others = dict(resources)
    cpus, gpus = others.pop("CPU", 1), others.pop("GPU", 0)
    return {"num_cpus": cpus, "num_gpus": gpus, "resources": others}


def _reserve_slice(job: Job, stop: threading.Event) -> Any | None:
    """A slice as Ray's placement group, bundle i on TPU worker i; None if told to stop."""
    from ray.util import tpu

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


def _host_options(group: Any) -> list[dict[str, Any]]:
    """Options of the task on each host of a slice."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    options = _options(group.bundle_resources)
    hosts = range(group.num_hosts)
    strategies = [PlacementGroupSchedulingStrategy(group.placement_group, host) for host in hosts]
    return [options | {"scheduling_strategy": strategy} for strategy in strategies]


def _run_on_hosts(job: Job, hosts: list[dict[str, Any]], stop: threading.Event) -> Ended:
    """Runs a process on each host, whose task has these options.

    If one fails or is lost, or on `stop`, all are ended.

    Returns:
        The first exit code that was not 0, if any, and the process that gave it.
    """
    import ray

    def submit(function: Any, host: int, *arguments: Any) -> Any:
        # A worker process per task: the end of one leaves nothing behind for the next.
        task = ray.remote(max_retries=0, max_calls=1)(function)
        return task.options(**hosts[host], name=job.name).remote(*arguments)

    flags = [()]
    if len(hosts) > 1:
        address = ray.get(submit(_free_address, 0))
        meeting = (f"--coordinator_address={address}", f"--num_processes={len(hosts)}")
        flags = [(*meeting, f"--process_id={host}") for host in range(len(hosts))]
    tasks = {submit(_run_process, host, job, flags[host], host): host for host in range(len(hosts))}
    left, decisive, lost, canceled = list(tasks), (0, 0), None, False
    while left:
        ended, left = ray.wait(left, timeout=_POLL_SECONDS)
        for task in ended:
            try:
                code = ray.get(task)
            except ray.exceptions.TaskCancelledError:
                code = INTERRUPTED
            except ray.exceptions.RayError as error:
                code, lost = INTERRUPTED, lost if canceled else error
            if code and not decisive[0]:
                decisive = code, tasks[task]
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
    from ray.util import get_node_ip_address

    with socket.socket() as listener:
        listener.bind(("", 0))
        return f"{get_node_ip_address()}:{listener.getsockname()[1]}"


def _run_process(job: Job, flags: tuple[str, ...], process_id: int) -> int:
    """The exit code of a process of a job, on the machine that Ray chose."""
    # The process of a lost worker may still be saving.
    process = start(job, flags=flags, process_id=process_id, wait=True)
    try:
        return process.wait()
    finally:
        # Ray interrupts a canceled task here; the run saves what it has.
        process.terminate()
        process.wait()
