"""Datasets of texts, kept in memory as one sequence of characters, and windows of it."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from smh_jax.config.buckets import check_reachable
from smh_jax.config.names import check_known
from smh_jax.data import (
    order,
    python_sources,  # noqa: F401  (registers the builder)
)
from smh_jax.data.characters import ASCII, encode

_KNOWN = ("python_sources",)
# Between the texts of two examples.
_SEPARATOR = "\n"

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TextInfo:
    """What is known of a dataset of texts before it is prepared.

    Attributes:
        name: of the dataset.
        class_names: the characters, in order of their numbers.
        context_length: characters that a model sees at once.
    """

    name: str
    class_names: tuple[str, ...]
    context_length: int

    @property
    def num_classes(self) -> int:
        """Number of different characters."""
        return len(self.class_names)


@dataclasses.dataclass(frozen=True)
class TextSplit:
    """All characters of a split, one text after the other.

    Attributes:
        tokens: their numbers, int32 [length].
        context_length: of the windows that are its training examples.
    """

    tokens: np.ndarray
    context_length: int

    @property
    def num_examples(self) -> int:
        """Windows of an epoch: they do not overlap, and all can be moved by less than one."""
        return (len(self.tokens) - self.context_length) // self.context_length


def describe(name: str, data_dir: str | None, context_length: int) -> TextInfo:
    """Describes a dataset without preparing it; for the arguments see `DataConfig`.

    Raises:
        ValueError: for an unknown name, or a dataset without texts.
    """
    _builder(name, data_dir)
    return TextInfo(name, ASCII, context_length)


def load(info: TextInfo, split: str, data_dir: str | None) -> TextSplit:
    """Reads a split into memory; the dataset is prepared first where that has not been done.

    Raises:
        ValueError: if the dataset can be neither found nor prepared, has no such split, characters
            that are unknown, or fewer than two windows of them.
    """
    builder = _builder(info.name, data_dir)
    try:
        builder.download_and_prepare()
    except Exception as error:
        # Whatever goes wrong in a download comes as one of many unrelated types.
        raise ValueError(
            f"data.name={info.name!r} is not prepared in data_dir={builder.data_dir} and could "
            f"not be downloaded; prepare it where there is internet, and copy that folder: {error}"
        ) from error
    try:
        dataset = builder.as_dataset(split=split, shuffle_files=False)
    except (ValueError, AssertionError) as error:
        raise ValueError(
            f"data split {split!r} is not a part of {info.name}, "
            f"whose splits are {', '.join(builder.info.splits)}: {error}"
        ) from error
    texts = [example["text"].decode() for example in dataset.as_numpy_iterator()]
    text, about = _SEPARATOR.join(texts), f"split {split!r} of data.name={info.name!r}"
    if len(text) < 2 * info.context_length:
        raise ValueError(
            f"data.context_length={info.context_length} is too long for {about}, which has "
            f"{len(text):,} characters; it must be at most {len(text) // 2:,}"
        )
    return TextSplit(encode(text, info.class_names, about), info.context_length)


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
        windows = split.tokens[begins[:, np.newaxis] + np.arange(length + 1)]
        yield {"tokens": windows[:, :-1], "next": windows[:, 1:]}


def eval_batches(
    split: TextSplit, *, batch_size: int, host: int = 0, num_hosts: int = 1
) -> Iterator[Batch]:
    """This host's share of batches in which every character but the first is to be told once.

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
            "tokens": split.tokens[places],
            "next": split.tokens[places + 1],
            "mask": mask.astype(np.float32),
        }


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
