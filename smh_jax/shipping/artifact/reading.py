"""Reading a model from a file, of a file of several sizes no more than is wanted."""

import os
import pathlib
from typing import Any, BinaryIO

from smh_jax.shipping.artifact import file, nested
from smh_jax.shipping.artifact.artifact import Artifact


def load(
    path: str | os.PathLike[str],
    model: Any = None,
    *,
    size: float | None = None,
    max_bytes: int | None = None,
) -> Artifact:
    """Reads a model that `save` or `save_sizes` wrote; nothing of the file is ever executed.

    Of a file of several sizes it is the largest that is there: all of them, unless the file is the
    beginning of one. No bytes are read beyond those of the model.

    Args:
        path: of the file.
        model: of your own, as `smh_jax.compress` gives it at any target size; a model of
            `smh_jax.models` is named in the file.
        size: which one, as a number of variables or a share of all weights.
        max_bytes: to read at most; of the sizes of which that is enough the largest is taken.

    Raises:
        ValueError: if the file is missing, cut off before the end of a model, changed, of another
            format version, or describes what does not fit together; for a size that is not there.
    """
    if size is not None and max_bytes is not None:
        raise ValueError(f"give either size={size:g} or max_bytes={max_bytes}")
    try:
        with pathlib.Path(path).open("rb") as stream:
            artifact = _read(stream, size, max_bytes)
        return artifact if model is None else artifact.with_model(model)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a model that can be loaded: {error}") from error


def _read(stream: BinaryIO, size: float | None, max_bytes: int | None) -> Artifact:
    start = stream.read(len(nested.MAGIC))
    if start == nested.MAGIC:
        return nested.read(stream, size, max_bytes)
    if size is not None:
        raise ValueError(f"size={size:g}: it holds one size")
    there = os.fstat(stream.fileno()).st_size
    if max_bytes is not None and there > max_bytes:
        raise ValueError(f"max_bytes={max_bytes}: it holds one size, of {there} bytes")
    return file.decode(start + stream.read())
