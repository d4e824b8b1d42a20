"""A job's process: its log, its lock, and its end if whoever started it is lost."""

import contextlib
import ctypes
import dataclasses
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence

from experiments.job import Job
from experiments.row import ROOT

# Beside the run's own files: what its process printed.
LOG = "log.txt"
_PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a job.

    Attributes:
        job: that ended.
        message: why it failed; '' if its process ended well.
        interrupted: whether it ended before it was done, and will go on where it was.
    """

    job: Job
    message: str = ""
    interrupted: bool = False


def start(
    arguments: Sequence[str], workdir: pathlib.Path, *, cores: Sequence[int] = (), wait: bool
) -> subprocess.Popen | None:
    """Starts a job's process with this interpreter, in the project's root.

    The folder is locked for as long as the process lives, be it killed, so that no two processes
    train in it. The process is told to end (SIGTERM) when the calling thread's process is lost.

    Args:
        arguments: of the interpreter.
        workdir: of the run; made if it is missing.
        cores: on which it runs; all where none is named.
        wait: for the folder's lock if another process holds it; without, None is returned.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if cores:
            os.sched_setaffinity(0, cores)

    with contextlib.ExitStack() as stack:
        lock = stack.enter_context((workdir / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return None
        log = stack.enter_context((workdir / LOG).open("a"))
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock.fileno(),),
            # An interrupt from the keyboard is for the runner, which tells its jobs.
            start_new_session=True,
            preexec_fn=prepare,
        )


def outcome(job: Job, code: int) -> Outcome:
    """How a job whose process left an exit code has ended."""
    if code:
        return Outcome(job, f"exit code {code}: {_last_line(job.workdir / LOG)}")
    # A run that was told to end by somebody else ends well, but without a result.
    return Outcome(job, interrupted=not job.result_path.exists())


def _last_line(path: pathlib.Path) -> str:
    """What a process said last, which for a mistake says what it was."""
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "it printed nothing"
