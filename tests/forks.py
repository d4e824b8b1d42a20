"""Python processes that need not import what takes seconds: forks of one that has.

A command is run as `python -m` or `python -c` would, with its own arguments, environment, working
directory and exit code; no device has been initialized before it is forked.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types

_PRELOADED = (
    "matplotlib.figure",
    "optax",
    "smh_jax.data.preparation",
    "smh_jax.shipping.from_run",
    "smh_jax.training.loop",
)
_LONGEST_REQUEST = 2**17


class Process:
    """A running fork, with what tests use of `subprocess.Popen`."""

    def __init__(self, status: int, stdout, stderr):
        self._status, self._streams = os.fdopen(status), (stdout, stderr)
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def poll(self, timeout: float | None = 0) -> int | None:
        """The exit code, or minus the signal; None if it runs on after so many seconds."""
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def said(self, text: str) -> bool:
        """Whether a text is in its output so far."""
        # The process writes where the file was last read or written.
        return text.encode() in os.pread(self._streams[0].fileno(), 2**20, 0)

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """All of its output and errors; it is killed when the seconds are over."""
        in_time = self.poll(timeout) is not None
        if not in_time:
            self.send_signal(signal.SIGKILL)
            self.poll(None)
        texts = []
        for stream in self._streams:
            with stream:
                stream.seek(0)
                texts.append(stream.read())
        if not in_time:
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout, *texts)
        return tuple(texts)


class Server:
    """The process that has imported and is forked."""

    def __init__(self, root: os.PathLike):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks", str(theirs.fileno())],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def start(self, *arguments: str, cwd: os.PathLike, env: dict[str, str]) -> Process:
        """Starts `python *arguments`, which begin with -m or -c."""
        # The process closes them when it has been read.
        streams = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        status, theirs = os.pipe()
        request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": env}).encode()
        assert len(request) < _LONGEST_REQUEST
        socket.send_fds(self._socket, [request], [*(s.fileno() for s in streams), theirs])
        os.close(theirs)
        return Process(status, *streams)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(timeout=60)


def _serve(requests: socket.socket) -> list[str] | None:
    """The arguments of a command, in the fork that is to run it; None at the end of requests."""
    # Nobody asks for the ends of the forks that wait.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        content, descriptors, *_ = socket.recv_fds(requests, _LONGEST_REQUEST, 3)
        if not content:
            return None
        stdout, stderr, status = descriptors
        if os.fork():
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        requests.close()
        # A fork waits for the command, which is its own fork, so that the server is free.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if command := os.fork():
            os.write(status, f"{command}\n".encode())
            _, ended = os.waitpid(command, 0)
            os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
            os._exit(0)
        os.close(status)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
        request = json.loads(content)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        return request["arguments"]


def _run(how: str, what: str, *arguments: str) -> None:
    sys.orig_argv = [sys.executable, how, what, *arguments]
    sys.argv = [how, *arguments]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
        return
    sys.path[0] = ""
    sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(what, "<string>", "exec"), sys.modules["__main__"].__dict__)


if __name__ == "__main__":
    for module in _PRELOADED:
        importlib.import_module(module)
    gc.freeze()
    if command := _serve(socket.socket(fileno=int(sys.argv[1]))):
        _run(*command)
