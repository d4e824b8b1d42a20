"""Batches of a split, in memory or in files: every value a function of the seed and the step."""

from collections.abc import Iterator

import numpy as np

from smh_jax.data import in_memory, streaming
from smh_jax.data.catalogue import Normalization, Split
from smh_jax.data.preprocessing import Augmentation
from smh_jax.data.records import RecordSplit

Batch = dict[str, np.ndarray]


def train_batches(
    split: Split | RecordSplit,
    normalization: Normalization,
    *,
    batch_size: int,
    augmentation: Augmentation | str,
    seed: int,
    first_step: int,
    last_step: int,
    host: int = 0,
    num_hosts: int = 1,
    dtype: str = "float32",
    skip_corrupt: bool = False,
) -> Iterator[Batch]:
    """This host's share of the batches of steps `first_step` to `last_step - 1`.

    Args:
        split: the training examples.
        normalization: of the images.
        batch_size: examples per step over all hosts.
        augmentation: of the images, or its name.
        seed: of order and augmentation.
        first_step, last_step: range of steps; step s sees the same whatever came before.
        host, num_hosts: which contiguous part of each batch is this host's.
        dtype: of the images, 'float32' or 'bfloat16'.
        skip_corrupt: takes the next example in the place of one that cannot be decoded.

    Yields:
        `image` [batch_size / num_hosts, height, width, channels] and `label`, int32.

    Raises:
        ValueError: on the way, at an image that cannot be decoded.
    """
    if isinstance(augmentation, str):
        augmentation = Augmentation(augmentation)
    options = {
        "batch_size": batch_size,
        "augmentation": augmentation,
        "seed": seed,
        "first_step": first_step,
        "last_step": last_step,
        "host": host,
        "num_hosts": num_hosts,
        "dtype": dtype,
    }
    if isinstance(split, RecordSplit):
        return streaming.train_batches(split, normalization, **options, skip_corrupt=skip_corrupt)
    return in_memory.train_batches(split, normalization, **options)


def eval_batches(
    split: Split | RecordSplit,
    normalization: Normalization,
    *,
    batch_size: int,
    host: int = 0,
    num_hosts: int = 1,
    dtype: str = "float32",
    skip_corrupt: bool = False,
) -> Iterator[Batch]:
    """This host's share of batches that hold every example once.

    Yields:
        `image` and `label` as in `train_batches`, and `mask` [batch_size / num_hosts], float32: 1
        for an example, 0 for the padding after the last one and for an example that is skipped.

    Raises:
        ValueError: on the way, at an image that cannot be decoded.
    """
    options = {"batch_size": batch_size, "host": host, "num_hosts": num_hosts, "dtype": dtype}
    if isinstance(split, RecordSplit):
        return streaming.eval_batches(split, normalization, **options, skip_corrupt=skip_corrupt)
    return in_memory.eval_batches(split, normalization, **options)
