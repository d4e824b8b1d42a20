"""One program on several hosts: how its processes find each other, agree and end together.

With a single process every function here is as good as absent.
"""

import atexit
import contextlib
import hashlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from smh_jax.config.errors import PeerError
from smh_jax.training import peers
from smh_jax.training.peers import leave as leave

# Until all processes of a run must have come.
CONNECT_SECONDS = 300
# After which a process that does not answer is taken for dead, and ends the others.
HEARTBEAT_SECONDS = 30
# JAX's own ends all without a readable word: it comes second.
_TIMEOUTS = {
    "heartbeat_timeout_seconds": 2 * HEARTBEAT_SECONDS,
    "shutdown_timeout_seconds": 2 * HEARTBEAT_SECONDS,
}

Result = TypeVar("Result")


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    connect_seconds: int = CONNECT_SECONDS,
) -> None:
    """Joins the other processes of this run; to be called before any computation.

    The hosts of a TPU slice find each other without arguments. Elsewhere, no arguments mean a
    single process.

    Args:
        coordinator_address: host:port, reachable from everywhere, at which process 0 listens.
        num_processes: of the run.
        process_id: of this one, from 0.
        connect_seconds: how long to wait for the others.

    Raises:
        PeerError: if not all of the others come in time.
        ValueError: if only some of the arguments are given, they are impossible, or the processes
            have different numbers of devices or other ideas of how many they are.
    """
    given = {
        "coordinator_address": coordinator_address,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise ValueError(f"several processes need {', '.join(missing)}, too")
    if missing:
        # What JAX chooses by itself on a TPU machine, unless it was told otherwise.
        if "tpu" in (jax.config.jax_platforms or ""):
            jax.distributed.initialize(**_TIMEOUTS)
            _check_devices(jax.process_count())
            _watch()
        return
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process_id={process_id} must be one of 0 to {num_processes - 1} "
            f"for --num_processes={num_processes}"
        )
    host, _, port = coordinator_address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"--coordinator_address={coordinator_address} must be host:port")
    logging.info(
        "process %d of %d meets the others at %s", process_id, num_processes, coordinator_address
    )
    peers.roll_call(host.strip("[]"), int(port), num_processes, process_id, connect_seconds)
    jax.distributed.initialize(coordinator_address, num_processes, process_id, **_TIMEOUTS)
    _check_devices(num_processes)
    _watch()


def _watch() -> None:
    """Takes note of processes that no longer answer, until this one ends."""
    if jax.process_count() > 1:
        atexit.register(peers.watch(HEARTBEAT_SECONDS).set)


def _check_devices(num_processes: int) -> None:
    count = jax.process_count()
    if count != num_processes:
        raise ValueError(
            f"--num_processes={num_processes}, but process 0 was started for {count}: "
            "give every process the same number"
        )
    counts = [
        sum(device.process_index == process for device in jax.devices())
        for process in range(num_processes)
    ]
    if len(set(counts)) > 1:
        raise ValueError(
            f"the {num_processes} processes have {', '.join(map(str, counts))} devices; "
            "each must have as many as the others, to take equal shares of a batch"
        )


def check_same(what: str, value: str) -> None:
    """Raises ValueError, in every process, unless all of them have the same `value`."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.int32)
    with failures_of_peers():
        digests = multihost_utils.process_allgather(digest)
    differing = [i for i, other in enumerate(digests) if np.any(other != digests[0])]
    if differing:
        raise ValueError(
            f"{what} is not the same in all {jax.process_count()} processes: differing from "
            f"process 0's in {', '.join(map(str, differing))}; here, in process "
            f"{jax.process_index()}, it is {value}"
        )


def first_before_others(function: Callable[[], Result]) -> Result:
    """Calls a function in every process, in the first one before the others.

    For what the first one has to write before the others may read it.
    """
    if jax.process_index() == 0:
        result = function()
        barrier("after the first process")
        return result
    barrier("after the first process")
    return function()


def barrier(name: str) -> None:
    """Waits for all processes to come here."""
    if jax.process_count() > 1:
        with failures_of_peers():
            multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def failures_of_peers() -> Iterator[None]:
    """Turns the failure of a computation over several processes into a PeerError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        # A lack of memory is this process's own.
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise PeerError(
            f"process {jax.process_index()} of {jax.process_count()} cannot continue: another one "
            "has ended, as its own log may tell, or cannot be reached "
            f"({str(error).splitlines()[0]}); "
            "the same commands resume from the last checkpoint"
        ) from error


@contextlib.contextmanager
def told_to_end() -> Iterator[Callable[[int], bool]]:
    """A function of the step that says whether to save and end after it.

    One process ends after the step in which it receives SIGTERM. Several agree on a step after
    any of them has received it, and must ask at every step.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        # Signals can only be handled by the main thread.
        yield lambda _: told.is_set()
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield lambda _: told.is_set()
    finally:
        signal.signal(signal.SIGTERM, previous)
