"""A job's process: its log, its lock, and its end if whoever started it is lost."""

import contextlib
import dataclasses
import fcntl
import shutil
import subprocess
import sys
from collections.abc import Sequence

from experiments.job import Job
from experiments.row import ROOT

# Exit code of a run that was told to end before it was complete (EX_TEMPFAIL of sysexits.h): the
# same command resumes it.
INTERRUPTED = 75
# Asks for the signal at the starter's end, takes the cores and becomes the job. Done by the process
# itself: to run code between fork and exec is not safe in a starter whose JAX has threads.
_LAUNCH = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if sys.argv[1]:
    os.sched_setaffinity(0, map(int, sys.argv[1].split(",")))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a job.

    Attributes:
        job: that ended.
        message: why it failed; '' if it did not.
        interrupted: whether it ended before it was done, and will resume where it was.
    """

    job: Job
    message: str = ""
    interrupted: bool = False


def start(
    job: Job,
    *,
    flags: Sequence[str] = (),
    process_id: int = 0,
    cores: Sequence[int] = (),
    wait: bool,
) -> subprocess.Popen | None:
    """Starts a process of a job with this interpreter, in the project's root.

    The run is locked for as long as the process lives, even if its starter is killed, so that no
    two processes train in one folder. The process receives SIGTERM when the calling
    thread's process is lost.

    Args:
        job: to run.
        flags: besides those of its command.
        process_id: which of the run's processes this is; each has a log and a lock of its own.
        cores: on which it runs; all where none is named.
        wait: for the lock if another process holds it; without, None is returned.
    """
    lock_path = job.file_alongside("lock", process_id)
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(lock_path.open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return None
        if job.row.convert_from and not job.result_path.exists():
            # What an interrupted conversion has left cannot be resumed, and it wants a new folder.
            shutil.rmtree(job.workdir, ignore_errors=True)
        log = stack.enter_context(job.file_alongside("log", process_id).open("a"))
        launch = (sys.executable, "-c", _LAUNCH, ",".join(map(str, cores)))
        return subprocess.Popen(
            [*launch, *job.command()[1:], *flags],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock.fileno(),),
            # An interrupt from the keyboard is for the runner, which tells its jobs.
            start_new_session=True,
        )


def outcome(job: Job, code: int, process_id: int = 0) -> Outcome:
    """How a job has ended, by the exit code of the process that decided it."""
    if code == INTERRUPTED:
        return Outcome(job, interrupted=True)
    if code:
        # What a process said last, which for a mistake says what it was.
        log = job.file_alongside("log", process_id)
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return Outcome(job, f"exit code {code}: {lines[-1] if lines else 'it printed nothing'}")
    missing = f"exit code 0, but {job.result_path} is missing"
    return Outcome(job, "" if job.result_path.exists() else missing)
