"""Candidates that are timed in a process of their own: libraries that do not live in one."""

import contextlib
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Facts = dict[str, Any]


class Seconds(NamedTuple):
    """Of a call: by the clock, and of the processor, of all the process's threads."""

    clock: float
    processor: float


def seconds_of(call: Callable[[], object]) -> Seconds:
    """What a call takes."""
    begin = time.perf_counter(), time.process_time()
    call()
    return Seconds(time.perf_counter() - begin[0], time.process_time() - begin[1])


def serve(candidates: Mapping[str, Callable[[], object]], facts: Facts) -> None:
    """In that process: calls the candidate that each line of the input names, until its end."""
    print(json.dumps({"candidates": [*candidates], **facts}), flush=True)
    for line in sys.stdin:
        print(json.dumps(seconds_of(candidates[line.strip()])), flush=True)


@contextlib.contextmanager
def started(module: str, *arguments: str) -> Iterator[tuple[Facts, Callable[[str], Seconds]]]:
    """Starts a module that serves candidates.

    Yields:
        What it says of itself, `candidates` among it, and a function that calls one of them.
    """
    command = [sys.executable, "-m", module, *arguments]
    root, pipe = pathlib.Path(__file__).parents[1], subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, text=True) as process:

        def answer() -> Any:
            if not (line := process.stdout.readline()):
                raise RuntimeError(f"{' '.join(command)} has ended with {process.wait()}")
            return json.loads(line)

        def call(name: str) -> Seconds:
            print(name, file=process.stdin, flush=True)
            return Seconds(*answer())

        # The process ends with its input.
        yield answer(), call
