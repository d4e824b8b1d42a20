"""The language reference that Python's help() shows, as a tensorflow-datasets builder: no download.

Texts about the sources of `python_sources`, in the same characters.
"""

from collections.abc import Iterator
from pydoc_data.topics import topics
from typing import Any

import tensorflow_datasets as tfds

from smh_jax.data.characters import ASCII
from smh_jax.data.python_sources import PYTHON, is_of_test

_AS_ASCII = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "…": "..."})


class PythonHelp(tfds.core.GeneratorBasedBuilder):
    """The topics of the running Python's help(), their quotation marks and dashes in ASCII.

    About a tenth of them, chosen by their names, is the test split. The few with other characters
    are left out, and those that are a section of another one, which may be in the other split.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=PYTHON, description=f"Of Python {PYTHON}.")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Topics of Python's help().",
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "name": tfds.features.Text()}
            ),
            homepage="https://docs.python.org/3/reference/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        texts = _texts()
        return {
            split: self._generate_examples(
                {
                    name: text
                    for name, text in texts.items()
                    if is_of_test(name) == (split == "test")
                }
            )
            for split in ("train", "test")
        }

    def _generate_examples(self, texts: dict[str, str]) -> Iterator[tuple[str, Any]]:
        for name, text in texts.items():
            yield name, {"text": text, "name": name}


def _texts() -> dict[str, str]:
    known = frozenset(ASCII)
    texts = {name: text.translate(_AS_ASCII) for name, text in sorted(topics.items())}
    texts = {name: text for name, text in texts.items() if known.issuperset(text)}

    def is_within_another(name: str) -> bool:
        # But for the heading, which is underlined as deep as the section is.
        body = texts[name].strip().split("\n", 2)[-1].strip()
        return any(body in other for n, other in texts.items() if n != name)

    return {name: text for name, text in texts.items() if not is_within_another(name)}
