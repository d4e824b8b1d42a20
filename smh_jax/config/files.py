"""Writing files on disk or in a bucket, completely or not at all."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from absl import logging
from etils import epath

_DIGEST = "sha256"


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file; a reader sees the old content or all of the new one, whenever this ends."""
    path = epath.Path(path)
    temporary = path.with_name(path.name + ".incomplete")
    temporary.write_bytes(data)
    temporary.replace(path)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes a JSON object with an indentation of 2, as `write_bytes` does."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_json_with_digest(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes a JSON object as `write_json` does, and in it the SHA-256 of all the rest."""
    write_json(path, {**content, _DIGEST: _digest(content)})


def read_json_with_digest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object in a file, without its digest; one that never had a digest is believed.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not what was written.
    """
    return parse_json_with_digest(epath.Path(path).read_bytes())


def parse_json_with_digest(text: bytes) -> dict[str, Any]:
    """What `read_json_with_digest` gives, of the content of a file."""
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"it is nested too deeply: {text[:40]!r}") from error
    if not isinstance(content, dict):
        raise ValueError(f"it is not a JSON object but {content!r:.100}")
    if content.pop(_DIGEST, None) not in (None, _digest(content)):
        raise ValueError(
            f"its content is not what its {_DIGEST} was made of; "
            "if it was changed on purpose, delete that line"
        )
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def keep(path: str | os.PathLike[str], name: str) -> None:
    """Moves a file or folder out of the way, to the first free name like `name`."""
    path = epath.Path(path)
    kept = _free_name(path, name)
    path.rename(kept)
    logging.info("%s is kept as %s", path.name, kept.name)


def keep_copy(path: str | os.PathLike[str], name: str) -> None:
    """Copies a file that will be replaced, to the first free name like `name`."""
    path = epath.Path(path)
    kept = _free_name(path, name)
    path.copy(kept)
    logging.info("%s is kept as %s", path.name, kept.name)


def _free_name(path: epath.Path, name: str) -> epath.Path:
    stem, dot, suffix = name.partition(".")
    number = 1
    while (free := path.with_name(f"{stem}.{number}{dot}{suffix}")).exists():
        number += 1
    return free
