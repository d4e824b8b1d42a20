"""Who trains a folder in a bucket, where nothing is released when a process dies.

A file says who holds the folder, with a beat that a thread renews. Whoever finds one watches it:
one whose beat changes is alive, one whose beat does not for `EXPIRES_SECONDS` has ended. Only the
watcher's own clock counts, so that those of two machines may differ.
"""

import contextlib
import datetime
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from absl import logging
from etils import epath

from smh_jax.training.peers import leave

EXPIRES_SECONDS = 60
_BEATS = 6


@contextlib.contextmanager
def leased(
    path: epath.Path,
    expires_seconds: float = EXPIRES_SECONDS,
    lost: Callable[[str], object] = leave,
) -> Iterator[None]:
    """Holds the lease of which a file tells.

    Args:
        path: of the file, in a folder that exists or in a bucket.
        expires_seconds: after which a lease that is not renewed may be taken over.
        lost: is called with one line that says whether another process has taken over this lease
            or it could not be renewed in time. It should end the process.

    Raises:
        ValueError: if another process holds it; the message says which, and since when.
    """
    beat = expires_seconds / _BEATS
    if (other := _read(path)) is not None:
        logging.info("%s is of %s: watching whether it is renewed", path, holder(other))
        deadline = time.monotonic() + expires_seconds
        while time.monotonic() < deadline:
            time.sleep(beat / 2)
            if (seen := _read(path)) is None:
                break
            if seen and seen != other:
                raise ValueError(f"workdir={path.parent} is in use by {holder(seen)}")
        else:
            logging.warning("%s of %s has expired: taken over", path, holder(other))
    lease = {
        "id": uuid.uuid4().hex,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds"),
        "beat": 0,
    }
    path.write_text(json.dumps(lease))
    # Of two that write at once the later one stays.
    time.sleep(beat / 2)
    _check_own(path, lease)
    ended = threading.Event()
    thread = threading.Thread(
        target=_renew, args=(path, lease, ended, beat, expires_seconds, lost), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(expires_seconds)
        current = _read(path)
        if current is not None and current.get("id") == lease["id"]:
            path.unlink()


def holder(lease: dict[str, Any]) -> str:
    """Who holds a lease, in words."""
    return f"process {lease.get('pid')} on {lease.get('host')} since {lease.get('since')}"


def _renew(
    path: epath.Path,
    lease: dict[str, Any],
    ended: threading.Event,
    beat: float,
    expires_seconds: float,
    lost: Callable[[str], object],
) -> None:
    """Writes the lease anew at every beat, unless it is another one's by then."""
    renewed = time.monotonic()
    while not ended.wait(beat):
        try:
            # A process that was stopped may find that it has been given up.
            _check_own(path, lease)
            lease = lease | {"beat": lease["beat"] + 1}
            # A bucket shows the old object or the new one, never a part.
            path.write_text(json.dumps(lease))
            renewed = time.monotonic()
        except ValueError as error:
            lost(f"error: {error}")
            return
        except Exception as error:
            # A bucket may be out of reach for a moment; its errors are of no one type.
            if time.monotonic() - renewed > expires_seconds - beat:
                lost(f"error: {path} could not be renewed: {' '.join(str(error).split())}")
                return


def _check_own(path: epath.Path, lease: dict[str, Any]) -> None:
    current = _read(path)
    if current is None or current.get("id") != lease["id"]:
        by = "nobody" if current is None else holder(current)
        raise ValueError(f"workdir={path.parent} is in use by {by}, not by this process any more")


def _read(path: epath.Path) -> dict[str, Any] | None:
    """The lease in a file, or None if there is none; one that cannot be read is nobody's."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
