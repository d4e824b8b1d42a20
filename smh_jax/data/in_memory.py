"""Batches of a split in memory."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from smh_jax.data import order
from smh_jax.data.catalogue import Normalization, Split
from smh_jax.data.preprocessing import Augmentation, normalize, random_crop

Batch = dict[str, np.ndarray]


def train_batches(
    split: Split,
    normalization: Normalization,
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    first_step: int,
    last_step: int,
    host: int,
    num_hosts: int,
    dtype: str,
) -> Iterator[Batch]:
    """See `smh_jax.data.train_batches`."""
    images, labels = tf.constant(split.images), tf.constant(split.labels)
    share = order.share(batch_size, host, num_hosts)

    def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)[share]
        rows = order.shuffled_rows(positions, split.num_examples, seed)
        image = normalize(tf.gather(images, rows), normalization)
        if augmentation.name in ("crop", "crop_flip"):
            # Drawn for the whole batch and cut, so that it is the same on any number of hosts.
            offsets = tf.random.stateless_uniform((batch_size, 2), seed=(seed, 2 * step))[share]
            image = random_crop(image, offsets, padding=split.images.shape[1] // 8)
        if augmentation.name == "crop_flip":
            flips = tf.random.stateless_uniform((batch_size,), seed=(seed, 2 * step + 1))[share]
            flip = flips[:, tf.newaxis, tf.newaxis, tf.newaxis] < 0.5
            image = tf.where(flip, image[:, :, ::-1], image)
        return {"image": tf.cast(image, dtype), "label": tf.gather(labels, rows)}

    dataset = tf.data.Dataset.range(first_step, last_step)
    dataset = dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def eval_batches(
    split: Split,
    normalization: Normalization,
    *,
    batch_size: int,
    host: int,
    num_hosts: int,
    dtype: str,
) -> Iterator[Batch]:
    """See `smh_jax.data.eval_batches`."""
    share = order.share(batch_size, host, num_hosts)
    for start in range(0, split.num_examples, batch_size):
        rows = np.arange(start, start + batch_size)[share]
        mask = rows < split.num_examples
        rows = np.where(mask, rows, 0)
        yield {
            "image": tf.cast(normalize(split.images[rows], normalization), dtype).numpy(),
            "label": split.labels[rows],
            "mask": mask.astype(np.float32),
        }
