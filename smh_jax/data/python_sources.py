"""The sources of Python's standard library."""

import pathlib
import sysconfig
from collections.abc import Iterator

from smh_jax.data.characters import ASCII
from smh_jax.data.python_texts import PythonTexts

# Tests and packages of others, and what only some installations have.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}


class PythonSources(PythonTexts):
    """The files of the running Python's standard library that are of ASCII alone."""

    description = "Files of Python's standard library."
    homepage = "https://docs.python.org/3/library/"

    def texts(self) -> dict[str, str]:
        return dict(_texts(pathlib.Path(sysconfig.get_path("stdlib"))))


def _texts(root: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Names and texts of the files below a folder."""
    known = frozenset(ASCII)
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if _LEFT_OUT.intersection(name.parts):
            continue
        try:
            text = path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            continue
        if text and known.issuperset(text):
            yield name.as_posix(), text
