"""Texts that come with Python as tensorflow-datasets builders: no download."""

import abc
import hashlib
import sys
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

_TEST_SHARE = 10
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class PythonTexts(tfds.core.GeneratorBasedBuilder):
    """Texts of the running Python, each of ASCII alone.

    About a tenth of them, chosen by their names, is the test split.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=_PYTHON, description=f"Of Python {_PYTHON}.")
    ]
    description: str
    homepage: str

    @abc.abstractmethod
    def texts(self) -> dict[str, str]:
        """By their names."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.description,
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "name": tfds.features.Text()}
            ),
            homepage=self.homepage,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        texts = self.texts()
        test = set(filter(_is_of_test, texts))
        return {
            "train": self._generate_examples({n: t for n, t in texts.items() if n not in test}),
            "test": self._generate_examples({n: t for n, t in texts.items() if n in test}),
        }

    def _generate_examples(self, texts: dict[str, str]) -> Iterator[tuple[str, Any]]:
        for name, text in texts.items():
            yield name, {"text": text, "name": name}


def _is_of_test(name: str) -> bool:
    """Looks random, and is the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % _TEST_SHARE == 0
