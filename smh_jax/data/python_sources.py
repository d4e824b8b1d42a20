"""The sources of Python's standard library as a tensorflow-datasets builder: text, no download."""

import hashlib
import pathlib
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from smh_jax.data.characters import ASCII

_TEST_SHARE = 10
# Tests and packages of others, and what only some installations have.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class PythonSources(tfds.core.GeneratorBasedBuilder):
    """The files of the running Python's standard library that are of ASCII alone.

    About a tenth of them, chosen by their names, is the test split.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=PYTHON, description=f"Of Python {PYTHON}.")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Files of Python's standard library.",
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "name": tfds.features.Text()}
            ),
            homepage="https://docs.python.org/3/library/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        texts = dict(_texts(pathlib.Path(sysconfig.get_path("stdlib"))))
        test = set(filter(is_of_test, texts))
        return {
            "train": self._generate_examples({n: t for n, t in texts.items() if n not in test}),
            "test": self._generate_examples({n: t for n, t in texts.items() if n in test}),
        }

    def _generate_examples(self, texts: dict[str, str]) -> Iterator[tuple[str, Any]]:
        for name, text in texts.items():
            yield name, {"text": text, "name": name}


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


def is_of_test(name: str) -> bool:
    """Whether a text is of the test split; looks random, and is the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % _TEST_SHARE == 0
