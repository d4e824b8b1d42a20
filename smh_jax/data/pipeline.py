"""Batches of a split in memory: every value a function of the seed and the step.

Example `p` of the endless stream of training examples is row `shuffle(p mod n)` of epoch `p div n`,
where the shuffle is a keyed permutation that needs no memory. So a run resumes at any step at once,
and what a step sees depends neither on how the run got there nor on the number of hosts.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from smh_jax.data.catalogue import Normalization, Split

Batch = dict[str, np.ndarray]


def train_batches(
    split: Split,
    normalization: Normalization,
    *,
    batch_size: int,
    augmentation: str,
    seed: int,
    first_step: int,
    last_step: int,
    host: int = 0,
    num_hosts: int = 1,
) -> Iterator[Batch]:
    """This host's share of the batches of steps `first_step` to `last_step - 1`.

    Args:
        split: the training examples.
        normalization: of the images.
        batch_size: examples per step over all hosts.
        augmentation: 'none', 'crop' or 'crop_flip'.
        seed: of order and augmentation.
        first_step, last_step: range of steps; step s sees the same whatever came before.
        host, num_hosts: which contiguous part of each batch is this host's.

    Yields:
        `image` [batch_size / num_hosts, height, width, channels], float32, and `label`, int32.
    """
    images, labels = tf.constant(split.images), tf.constant(split.labels)
    num_examples = split.num_examples
    share = slice(host * batch_size // num_hosts, (host + 1) * batch_size // num_hosts)

    def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)[share]
        epochs = positions // num_examples
        # The operation below tf.random.experimental.index_shuffle, which cannot take a seed for
        # each element; a batch can reach into the next epoch.
        rows = tf.raw_ops.RandomIndexShuffle(
            index=positions % num_examples,
            seed=tf.stack(
                [tf.fill(tf.shape(epochs), tf.constant(seed, tf.int64)), epochs, epochs], 1
            ),
            max_index=tf.constant(num_examples - 1, tf.int64),
            rounds=4,
        )
        image = _normalize(tf.gather(images, rows), normalization)
        if augmentation in ("crop", "crop_flip"):
            # Drawn for the whole batch and cut, so that it is the same on any number of hosts.
            offsets = tf.random.stateless_uniform((batch_size, 2), seed=(seed, 2 * step))[share]
            image = _random_crop(image, offsets, padding=split.images.shape[1] // 8)
        if augmentation == "crop_flip":
            flips = tf.random.stateless_uniform((batch_size,), seed=(seed, 2 * step + 1))[share]
            flip = flips[:, tf.newaxis, tf.newaxis, tf.newaxis] < 0.5
            image = tf.where(flip, image[:, :, ::-1], image)
        return {"image": image, "label": tf.gather(labels, rows)}

    dataset = tf.data.Dataset.range(first_step, last_step)
    dataset = dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def eval_batches(
    split: Split,
    normalization: Normalization,
    *,
    batch_size: int,
    host: int = 0,
    num_hosts: int = 1,
) -> Iterator[Batch]:
    """This host's share of batches that hold every example once.

    Yields:
        `image` and `label` as in `train_batches`, and `mask` [batch_size / num_hosts], float32: 1
        for an example, 0 for the padding after the last one.
    """
    share = slice(host * batch_size // num_hosts, (host + 1) * batch_size // num_hosts)
    for start in range(0, split.num_examples, batch_size):
        rows = np.arange(start, start + batch_size)[share]
        mask = rows < split.num_examples
        rows = np.where(mask, rows, 0)
        yield {
            "image": _normalize(split.images[rows], normalization).numpy(),
            "label": split.labels[rows],
            "mask": mask.astype(np.float32),
        }


def _normalize(images: tf.Tensor | np.ndarray, normalization: Normalization) -> tf.Tensor:
    scale = 1.0 / (255.0 * np.asarray(normalization.stddev, np.float32))
    shift = np.asarray(normalization.mean, np.float32) / np.asarray(
        normalization.stddev, np.float32
    )
    return tf.cast(images, tf.float32) * scale - shift


def _random_crop(images: tf.Tensor, offsets: tf.Tensor, padding: int) -> tf.Tensor:
    """Crops of the original size from images padded with their mean (which is 0).

    Args:
        images: [batch, height, width, channels].
        offsets: [batch, 2], uniform on [0, 1).
        padding: pixels on each side.
    """
    _, height, width, _ = images.shape
    padded = tf.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    starts = tf.cast(offsets * (2 * padding + 1), tf.int32)
    rows = starts[:, :1] + tf.range(height)
    columns = starts[:, 1:] + tf.range(width)
    padded = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(padded, columns, axis=2, batch_dims=1)
