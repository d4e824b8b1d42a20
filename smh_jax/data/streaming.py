"""Batches of encoded images that stay in their files: read, decoded and preprocessed as needed.

What a step sees is a function of the seed and the step, as with splits in memory (see
`smh_jax.data.order`). An image that cannot be decoded is an error that names it or, where the run
says so, skipped: evaluation leaves it out, training takes the next example of the split in its
place. That too is a function of the seed and the step, for each place is tried anew.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from smh_jax.data import order, preprocessing, records
from smh_jax.data.catalogue import Normalization
from smh_jax.data.preprocessing import Augmentation
from smh_jax.data.records import RecordSplit

Batch = dict[str, np.ndarray]
Example = dict[str, tf.Tensor]

# Records are read this many at a time: fewer calls than one by one, and less to keep than a batch.
_READ_TOGETHER = 32


def train_batches(
    split: RecordSplit,
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
    skip_corrupt: bool,
) -> Iterator[Batch]:
    """See `smh_jax.data.train_batches`."""
    corrupt: collections.Counter[int] = collections.Counter()

    def read(position: int, row: int) -> bytes:
        return split.records[(row + corrupt[position]) % split.num_examples]

    def example(position: tf.Tensor, record: tf.Tensor) -> Example:
        features = records.parse(record)
        image = preprocessing.training_image(
            features["image"],
            tf.stack([tf.constant(seed, tf.int64), position]),
            family=split.preprocessing,
            image_size=split.image_size,
            normalization=normalization,
            augmentation=augmentation,
        )
        return {"image": tf.cast(image, dtype), "label": tf.cast(features["label"], tf.int32)}

    stream = _Stream(
        split=split,
        batch_size=batch_size,
        share=order.share(batch_size, host, num_hosts),
        rows=lambda positions: order.shuffled_rows(positions, split.num_examples, seed),
        read=read,
        example=example,
        corrupt=corrupt,
    )
    return stream.batches(first_step, last_step, skip_corrupt)


def eval_batches(
    split: RecordSplit,
    normalization: Normalization,
    *,
    batch_size: int,
    host: int,
    num_hosts: int,
    dtype: str,
    skip_corrupt: bool,
) -> Iterator[Batch]:
    """See `smh_jax.data.eval_batches`."""
    corrupt: collections.Counter[int] = collections.Counter()
    image_shape = (split.image_size, split.image_size, 3)

    def read(position: int, row: int) -> bytes:
        return b"" if row >= split.num_examples or corrupt[position] else split.records[row]

    def example(_: tf.Tensor, record: tf.Tensor) -> Example:
        there = tf.strings.length(record) > 0
        return tf.cond(there, lambda: decoded(record), padding)

    def decoded(record: tf.Tensor) -> Example:
        features = records.parse(record)
        image = preprocessing.evaluation_image(
            features["image"],
            family=split.preprocessing,
            image_size=split.image_size,
            normalization=normalization,
        )
        label = tf.cast(features["label"], tf.int32)
        return {"image": tf.cast(image, dtype), "label": label, "mask": tf.constant(1.0)}

    def padding() -> Example:
        image = tf.zeros(image_shape, dtype)
        return {"image": image, "label": tf.constant(0), "mask": tf.constant(0.0)}

    stream = _Stream(
        split=split,
        batch_size=batch_size,
        share=order.share(batch_size, host, num_hosts),
        rows=lambda positions: positions,
        read=read,
        example=example,
        corrupt=corrupt,
    )
    return stream.batches(0, -(-split.num_examples // batch_size), skip_corrupt)


@dataclasses.dataclass(frozen=True)
class _Stream:
    """One host's examples. A position counts the examples of all hosts from step 0 on.

    Attributes:
        split: where they come from.
        batch_size: examples per step over all hosts.
        share: which of them are this host's.
        rows: the rows of the split at some positions.
        read: the record at a position, which is to be that row's; empty where there is none.
        example: what the record at a position becomes.
        corrupt: how many records that cannot be decoded were found at a position.
    """

    split: RecordSplit
    batch_size: int
    share: slice
    rows: Callable[[tf.Tensor], tf.Tensor]
    read: Callable[[int, int], bytes]
    example: Callable[[tf.Tensor, tf.Tensor], Example]
    corrupt: collections.Counter[int]

    def batches(self, first_step: int, last_step: int, skip_corrupt: bool) -> Iterator[Batch]:
        """The host's batches of steps `first_step` to `last_step - 1`."""
        step = first_step
        while step < last_step:
            try:
                for batch in self._dataset(step, last_step).as_numpy_iterator():
                    yield batch
                    step += 1
            except tf.errors.OpError as error:
                self._note_corrupt(step, skip_corrupt, error)

    def _dataset(self, first_step: int, last_step: int) -> tf.data.Dataset:
        examples = self.share.stop - self.share.start

        def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            positions = index // examples * self.batch_size + self.share.start + index % examples
            read = tf.numpy_function(self._read, (positions, self.rows(positions)), tf.string)
            return positions, tf.ensure_shape(read, positions.shape)

        dataset = tf.data.Dataset.range(first_step * examples, last_step * examples)
        dataset = dataset.batch(_READ_TOGETHER).map(read, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.unbatch().map(self.example, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.batch(examples, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def _read(self, positions: np.ndarray, rows: np.ndarray) -> np.ndarray:
        pairs = zip(positions.tolist(), rows.tolist(), strict=True)
        return np.array([self.read(position, row) for position, row in pairs], object)

    def _note_corrupt(self, step: int, skip: bool, error: tf.errors.OpError) -> None:
        """Finds the images that made a step fail.

        Raises:
            ValueError: that names the first of them, unless they are to be skipped.
            tf.errors.OpError: the given one, if no image explains it.
        """
        positions = step * self.batch_size + tf.range(self.batch_size, dtype=tf.int64)[self.share]
        rows = self.rows(positions).numpy().tolist()
        found = False
        for position, row in zip(positions.numpy().tolist(), rows, strict=True):
            try:
                record = self.read(position, row)
            except (RuntimeError, ValueError, OSError) as cause:
                raise ValueError(
                    f"example {row} of {self.split.name} cannot be read from "
                    f"{self.split.file(row)}: {cause}"
                ) from error
            try:
                self.example(tf.constant(position, tf.int64), tf.constant(record))
            except tf.errors.InvalidArgumentError as cause:
                name = records.parse(record)["file_name"].numpy().decode()
                # TensorFlow puts names of its functions before and of its operations after.
                reason = cause.message.splitlines()[0].split("}} ")[-1].split(" [Op:")[0]
                message = f"image {name} of {self.split.name} cannot be decoded: {reason}"
                if not skip:
                    raise ValueError(
                        f"{message}; data.skip_corrupt=True goes on without it"
                    ) from error
                logging.warning("%s; skipped", message)
                self.corrupt[position] += 1
                found = True
        if not found:
            raise error
