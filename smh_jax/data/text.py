"""Datasets of texts as one sequence of tokens, and windows of it.

Texts of tensorflow-datasets' catalogue are characters in memory. 'tokens:/path' is a folder of
tokens that have been made before (`scripts/prepare_text.py`), which stay in their files:

    /path/vocabulary.json   {"num_tokens": 50257, "dtype": "uint16", "encoding": "gpt2"}
    /path/train.bin  /path/test.bin
"""

import dataclasses
import json
import pathlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from smh_jax.config.buckets import check_reachable
from smh_jax.config.names import check_known
from smh_jax.data import (
    order,
    python_help,  # noqa: F401  (registers the builder)
    python_sources,  # noqa: F401  (registers the builder)
)
from smh_jax.data.characters import ASCII, encode

PREFIX = "tokens:"
_KNOWN = ("python_sources", "python_help")
_SPLITS = ("train", "test")
_DTYPES = ("uint8", "uint16", "uint32")
# Between the texts of two examples.
_SEPARATOR = "\n"

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TextInfo:
    """What is known of a dataset of texts before it is prepared.

    Attributes:
        name: of the dataset.
        class_names: the characters, in order of their numbers; () for other tokens.
        num_classes: how many different tokens there are.
        context_length: tokens that a model sees at once.
        encoding: tiktoken's name of what made other tokens, if the folder says it.
    """

    name: str
    class_names: tuple[str, ...]
    num_classes: int
    context_length: int
    encoding: str | None = None


@dataclasses.dataclass(frozen=True)
class TextSplit:
    """All tokens of a split, one text after the other.

    Attributes:
        tokens: their numbers, whole numbers [length], in memory or in a file.
        context_length: of the windows that are its training examples.
        num_tokens: below which all of them are.
    """

    tokens: np.ndarray
    context_length: int
    num_tokens: int

    @property
    def num_examples(self) -> int:
        """Windows of an epoch: they do not overlap, and all can be moved by less than one."""
        return (len(self.tokens) - self.context_length) // self.context_length


def describe(name: str, data_dir: str | None, context_length: int) -> TextInfo:
    """Describes a dataset without preparing it; for the arguments see `DataConfig`.

    Raises:
        ValueError: for an unknown name, or a dataset without texts.
    """
    if name.startswith(PREFIX):
        vocabulary = _vocabulary(name)
        encoding = vocabulary.get("encoding")
        return TextInfo(name, (), vocabulary["num_tokens"], context_length, encoding)
    _builder(name, data_dir)
    return TextInfo(name, ASCII, len(ASCII), context_length)


def load(info: TextInfo, split: str, data_dir: str | None) -> TextSplit:
    """Reads a split into memory; the dataset is prepared first where that has not been done.

    Raises:
        ValueError: if the dataset can be neither found nor prepared, has no such split, characters
            that are unknown, or fewer than two windows of them.
    """
    about = f"split {split!r} of data.name={info.name!r}"
    if info.name.startswith(PREFIX):
        tokens = _tokens_of_files(info.name, split)
    else:
        text = _text_of_catalogue(info.name, split, data_dir)
        tokens = encode(text, info.class_names, about)
    if len(tokens) < 2 * info.context_length:
        raise ValueError(
            f"data.context_length={info.context_length} is too long for {about}, which has "
            f"{len(tokens):,} tokens; it must be at most {len(tokens) // 2:,}"
        )
    return TextSplit(tokens, info.context_length, info.num_classes)


def _text_of_catalogue(name: str, split: str, data_dir: str | None) -> str:
    """All texts of a split, one after the other."""
    builder = _builder(name, data_dir)
    try:
        builder.download_and_prepare()
    except Exception as error:
        # Whatever goes wrong in a download comes as one of many unrelated types.
        raise ValueError(
            f"data.name={name!r} is not prepared in data_dir={builder.data_dir} and could "
            f"not be downloaded; prepare it where there is internet, and copy that folder: {error}"
        ) from error
    try:
        dataset = builder.as_dataset(split=split, shuffle_files=False)
    except (ValueError, AssertionError) as error:
        raise ValueError(
            f"data split {split!r} is not a part of {name}, "
            f"whose splits are {', '.join(builder.info.splits)}: {error}"
        ) from error
    texts = [example["text"].decode() for example in dataset.as_numpy_iterator()]
    return _SEPARATOR.join(texts)


def _vocabulary(name: str) -> dict[str, Any]:
    """What a folder of tokens says of itself."""
    path = pathlib.Path(name.removeprefix(PREFIX)).expanduser() / "vocabulary.json"
    try:
        content = json.loads(path.read_text())
        num_tokens, dtype = content["num_tokens"], content["dtype"]
        is_valid = isinstance(num_tokens, int) and num_tokens > 0 and dtype in _DTYPES
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"data.name={name!r}: {path} cannot be read ({error}); "
            "`python -m scripts.prepare_text --help` says how to make such a folder"
        ) from error
    if not is_valid:
        raise ValueError(
            f"data.name={name!r}: {path} must have a number of tokens, and a dtype of "
            f"{', '.join(_DTYPES)}"
        )
    return content


def _tokens_of_files(name: str, split: str) -> np.ndarray:
    """The tokens of a split in tensorflow-datasets' notation, which stay in their file."""
    folder = pathlib.Path(name.removeprefix(PREFIX)).expanduser()
    dtype = _vocabulary(name)["dtype"]
    try:
        files = {s: np.memmap(folder / f"{s}.bin", dtype, mode="r") for s in _SPLITS}
    except (OSError, ValueError) as error:
        raise ValueError(f"data.name={name!r}: {error}") from error
    sizes = {s: types.SimpleNamespace(num_examples=len(file)) for s, file in files.items()}
    try:
        (part,) = tfds.core.ReadInstruction.from_spec(split).to_absolute(sizes)
    except (ValueError, AssertionError, KeyError) as error:
        raise ValueError(
            f"data split {split!r} is not one part of {name}, whose splits are "
            f"{', '.join(_SPLITS)}: {error}"
        ) from error
    return files[part.splitname][part.from_ : part.to]


def train_batches(
    split: TextSplit,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    host: int = 0,
    num_hosts: int = 1,
) -> Iterator[Batch]:
    """This host's share of the batches of steps `first_step` to `last_step - 1`.

    In every epoch all windows begin at another place, the same for all of them.

    Yields:
        `tokens` and `next`, what follows each of them, int32 [batch_size / num_hosts, length].
    """
    share, length = order.share(batch_size, host, num_hosts), split.context_length
    for step in range(first_step, last_step):
        positions = np.arange(step * batch_size, (step + 1) * batch_size)[share]
        rows = order.shuffled_rows(tf.constant(positions), split.num_examples, seed).numpy()
        epochs = positions // split.num_examples
        shift = {e: np.random.default_rng((seed, e)).integers(length) for e in set(epochs.tolist())}
        begins = rows * length + np.array([shift[epoch] for epoch in epochs.tolist()])
        windows = _taken(split, begins[:, np.newaxis] + np.arange(length + 1))
        yield {"tokens": windows[:, :-1], "next": windows[:, 1:]}


def eval_batches(
    split: TextSplit, *, batch_size: int, host: int = 0, num_hosts: int = 1
) -> Iterator[Batch]:
    """This host's share of batches in which every token but the first is to be told once.

    Yields:
        `tokens` and `next` as in `train_batches`, and `mask` of their shape, float32: 0 for the
        padding behind the last one.
    """
    share, length = order.share(batch_size, host, num_hosts), split.context_length
    last = len(split.tokens) - 1
    for start in range(0, -(-last // length), batch_size):
        rows = np.arange(start, start + batch_size)[share]
        places = rows[:, np.newaxis] * length + np.arange(length)
        mask = places < last
        places = np.where(mask, places, 0)
        yield {
            "tokens": _taken(split, places),
            "next": _taken(split, places + 1),
            "mask": mask.astype(np.float32),
        }


def _taken(split: TextSplit, places: np.ndarray) -> np.ndarray:
    """The tokens at some places, int32.

    Raises:
        ValueError: for a token that there is not.
    """
    tokens = split.tokens[places].astype(np.int32)
    if tokens.size and tokens.max() >= split.num_tokens:
        raise ValueError(
            f"the data have token {tokens.max()} at {places[tokens == tokens.max()][0]:,}, and "
            f"tokens must be below {split.num_tokens}"
        )
    return tokens


def _builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    check_reachable(data_dir, "data.data_dir")
    if name not in _KNOWN and name.partition("/")[0] not in tfds.list_builders(
        with_community_datasets=False
    ):
        check_known(f"data.name={name!r}", name, _KNOWN)
    builder = tfds.builder(name, data_dir=data_dir)
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict) or "text" not in features:
        raise ValueError(f"data.name={name!r} is not a dataset of texts")
    return builder
