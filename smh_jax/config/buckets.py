"""Whether a bucket can be reached at all: the libraries that read it try again for long."""

import os
import queue
import socket
import threading
import urllib.request

_HOSTS = {"gs": "storage.googleapis.com"}
_PORT = 443
SECONDS = 5


def check_reachable(path: str | os.PathLike[str] | None, field: str) -> None:
    """Returns if nothing stands between this machine and the host of a bucket.

    Args:
        path: of a folder or file; on a disk it is not looked at.
        field: what the path was given for, for the message.

    Raises:
        ValueError: if the host does not answer within `SECONDS`.
    """
    host = _HOSTS.get(os.fspath(path or "").partition("://")[0])
    # A proxy is asked for the host, and only the library knows how.
    if host is None or urllib.request.getproxies():
        return
    answers: queue.Queue[OSError | None] = queue.Queue()
    # Looking up a name has no timeout of its own, and nobody waits for this thread.
    threading.Thread(target=_connect, args=(host, answers), daemon=True).start()
    try:
        error = answers.get(timeout=SECONDS)
    except queue.Empty:
        error = TimeoutError(f"no answer within {SECONDS} seconds")
    if error is not None:
        raise ValueError(
            f"{field}={path} cannot be reached: {host}: {error}; check the network of this "
            "machine, or name a folder on disk"
        ) from error


def _connect(host: str, answers: queue.Queue[OSError | None]) -> None:
    try:
        with socket.create_connection((host, _PORT), timeout=SECONDS):
            answers.put(None)
    except OSError as error:
        answers.put(error)
