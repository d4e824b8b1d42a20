"""Checks that the other processes of a run arrive and continue to respond.

JAX checks both as well, but aborts the process from C++, with a stack trace that does not say
who is missing. Every process counts its own ticks only, so that clocks may differ, and a process
that was stopped does not take the others for silent.
"""

import contextlib
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable
from typing import NoReturn

import jax
from jax._src.distributed import global_state

from smh_jax.config.errors import PeerError

_KEYS = "smh_jax/beats/"
_ENDED = "ended"
_ANSWER = "smh_jax roll call: "
# Until a connection has said which process it is of, and until an answer has arrived.
_MESSAGE_SECONDS = 5
_TICKS = 15
# After which all others have noticed what one has, on busy machines, too.
_NOTICED_SECONDS = 2


def leave(message: str) -> NoReturn:
    """Ends this process at once, and with it, by their own errors, the others.

    A regular end would wait for all of them to end regularly.
    """
    print(message, file=sys.stderr, flush=True)
    os._exit(1)


def roll_call(host: str, port: int, num_processes: int, process_id: int, seconds: float) -> None:
    """Returns when all processes have come.

    Process 0 listens where JAX's service will, which does not name those for whom it waits.

    Args:
        host: of process 0.
        port: free there.
        num_processes: of the run.
        process_id: of this one.
        seconds: for how long process 0 waits for the others, and each other one for process 0.

    Raises:
        PeerError: if not all come; the message says which.
    """
    if process_id:
        answer = _answer(host, port, process_id, seconds)
        if answer is None:
            answer = f"process 0 did not come to {host}:{port} within {seconds:g} seconds"
    else:
        answer = _call(port, num_processes, seconds)
    if answer:
        raise PeerError(f"process {process_id} of {num_processes} cannot begin: {answer}")


def _call(port: int, num_processes: int, seconds: float) -> str:
    """What process 0 tells all that have come: who has not, or nothing."""
    deadline = time.monotonic() + seconds
    absent, present = set(range(1, num_processes)), []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listening(port))
        while absent and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            # Whoever else comes to this port, or hangs up, is of no interest.
            with contextlib.suppress(OSError, ValueError):
                connection = stack.enter_context(server.accept()[0])
                connection.settimeout(_MESSAGE_SECONDS)
                process = int(connection.recv(20))
                present.append(connection)
                absent.discard(process)
        answer = ""
        if absent:
            answer = f"{_named(absent)} did not come to port {port} within {seconds:g} seconds"
        for connection in present:
            with contextlib.suppress(OSError):
                connection.sendall(f"{_ANSWER}{answer}".encode())
    return answer


def _listening(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _answer(host: str, port: int, process_id: int, seconds: float) -> str | None:
    """What process 0 says to this one, or None if it is not there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            address = (host, port)
            with socket.create_connection(address, timeout=_MESSAGE_SECONDS) as connection:
                connection.sendall(str(process_id).encode())
                # It may have begun to wait only now.
                connection.settimeout(seconds + _MESSAGE_SECONDS)
                if answer := connection.recv(10_000).decode(errors="replace"):
                    if answer.startswith(_ANSWER):
                        return answer.removeprefix(_ANSWER)
                    return f"the run at {host}:{port} has begun without it"
        time.sleep(0.1)
    return None


def watch(seconds: float) -> threading.Event:
    """From now on another process that is silent for so many seconds ends this one, in one line.

    Returns:
        An event to be set when this process is about to end regularly.
    """
    silent: dict[int, int] = {}
    ending = threading.Event()
    tick = seconds / _TICKS
    for function in (_talk, _listen):
        threading.Thread(target=function, args=(silent, ending, tick), daemon=True).start()
    return ending


def _talk(silent: dict[int, int], ending: threading.Event, tick: float) -> None:
    """Shows the others at every tick that this process lives, and notes which of them do."""
    client, own = global_state.client, jax.process_index()
    latest: dict[str, str] = {}
    try:
        for beat in itertools.count():
            client.key_value_set(f"{_KEYS}{own}", str(beat), allow_overwrite=True)
            for key, value in client.key_value_dir_get(_KEYS):
                process = int(key.rpartition("/")[2])
                if value == _ENDED:
                    silent.pop(process, None)
                elif process != own and latest.get(key) != value:
                    latest[key], silent[process] = value, 0
            if ending.wait(tick):
                break
        client.key_value_set(f"{_KEYS}{own}", _ENDED, allow_overwrite=True)
    except jax.errors.JaxRuntimeError:
        # Process 0 has ended: JAX tells what that means.
        ending.set()


def _listen(silent: dict[int, int], ending: threading.Event, tick: float) -> None:
    """Ends this process when another one has been silent for `_TICKS`."""
    while not ending.wait(tick):
        for process in list(silent):
            if process in silent:
                silent[process] += 1
        lost = {process for process, ticks in silent.items() if ticks >= _TICKS}
        if silent.get(0, 0) > 1:
            # All is heard through process 0: without it, nothing is known of the others.
            lost &= {0}
        if lost:
            message = (
                f"error: process {jax.process_index()} of {jax.process_count()} cannot continue: "
                f"{_named(lost)} has not answered for {tick * _TICKS:g} seconds; "
                "the same commands resume from the last checkpoint"
            )
            print(message, file=sys.stderr, flush=True)
            # The others are to notice the same, and not that this one is gone.
            time.sleep(max(3 * tick, _NOTICED_SECONDS))
            os._exit(1)


def _named(processes: Iterable[int]) -> str:
    return " and ".join(f"process {process}" for process in sorted(processes))
