"""Reading a model from a file, of a file of several models no more than is wanted."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from smh_jax.shipping.artifact import file, nested, together
from smh_jax.shipping.artifact.artifact import Artifact


def load(
    path: str | os.PathLike[str],
    model: Any = None,
    *,
    size: float | None = None,
    max_bytes: int | None = None,
    task: str | None = None,
) -> Artifact:
    """Reads a model that `save`, `save_sizes` or `save_tasks` wrote; nothing of it is executed.

    Of a file of several sizes it is the largest that is there: all of them, unless the file is the
    beginning of one. No bytes are read beyond those of the model.

    Args:
        path: of the file.
        model: of your own, as `smh_jax.compress` gives it at any target size; a model of
            `smh_jax.models` is named in the file.
        size: which one, as a number of variables or a share of all weights.
        max_bytes: to read at most; of the sizes of which that is enough the largest is taken.
        task: which one of a file of several.

    Raises:
        ValueError: if the file is missing, cut off before the end of a model, changed, of another
            format version, or describes what does not fit together; for a size or a task that is
            not there.
    """
    if size is not None and max_bytes is not None:
        raise ValueError(f"give either size={size:g} or max_bytes={max_bytes}")
    with _opened(path) as stream:
        artifact = _read(stream, size, max_bytes, task)
        return artifact if model is None else artifact.with_model(model)


def load_tasks(path: str | os.PathLike[str]) -> dict[str, Artifact]:
    """Reads all models of a file of several tasks, by task; their pools are the same arrays.

    Raises:
        ValueError: as `load`, and for a file of another kind.
    """
    with _opened(path) as stream:
        if stream.read(len(together.MAGIC)) != together.MAGIC:
            raise ValueError("it is no file of several tasks")
        with _of_parts():
            return together.read(stream)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file; every error of reading it is a ValueError that names it."""
    try:
        with pathlib.Path(path).open("rb") as stream:
            yield stream
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a model that can be loaded: {error}") from error


@contextlib.contextmanager
def _of_parts() -> Iterator[None]:
    """Around reading a file of several parts, whose header, if hostile, can raise any error."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error!s:.500}"
        raise ValueError(f"its header does not fit: {text}") from error


def _read(
    stream: BinaryIO, size: float | None, max_bytes: int | None, task: str | None
) -> Artifact:
    start = stream.read(len(nested.MAGIC))
    if start == together.MAGIC:
        if size is not None or max_bytes is not None:
            raise ValueError("it holds several tasks, of one size each")
        with _of_parts():
            models = together.read(stream, task)
        if task is None:
            raise ValueError(f"it holds several tasks, name one: {', '.join(models)}")
        return models[task]
    if task is not None:
        raise ValueError(f"task={task!r}: it does not hold several tasks")
    if start == nested.MAGIC:
        with _of_parts():
            return nested.read(stream, size, max_bytes)
    if size is not None:
        raise ValueError(f"size={size:g}: it holds one size")
    there = os.fstat(stream.fileno()).st_size
    if max_bytes is not None and there > max_bytes:
        raise ValueError(f"max_bytes={max_bytes}: it holds one size, of {there} bytes")
    return file.decode(start + stream.read())
