"""Batches of encoded images that stay in their files: read, decoded and preprocessed as needed.

What a step sees is a function of the seed and the step, as with splits in memory (see
`smh_jax.data.order`). An image that cannot be decoded is an error that names it or, where the run
says so, skipped: evaluation leaves it out, training takes the next example of the split in its
place. That too is a function of the seed and the step, for each position is tried anew.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from smh_jax.data import order, records
from smh_jax.data.records import RecordSplit

Example = dict[str, tf.Tensor]

# Records are read this many at a time: fewer calls than one by one, and less to keep than a batch.
_READ_TOGETHER = 32


@dataclasses.dataclass(frozen=True)
class Stream:
    """One host's examples. A position counts the examples of all hosts from step 0 on.

    Attributes:
        split: where they come from.
        batch_size: examples per step over all hosts.
        share: which of them are this host's.
        image: of an encoded image at a position, the preprocessed one [image_size, image_size, 3].
        dtype, skip_corrupt: as in `train_batches`.
        seed: of training's order; None for evaluation, which reads every example once, in the
            files' order, and pads the last batch. Its batches have a `mask`.
        corrupt: how many records that cannot be decoded were met at a position so far.
    """

    split: RecordSplit
    batch_size: int
    share: slice
    image: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    dtype: str
    skip_corrupt: bool
    seed: int | None
    corrupt: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)

    def batches(self, first_step: int, last_step: int) -> Iterator[dict[str, np.ndarray]]:
        """The host's batches of steps `first_step` to `last_step - 1`."""
        step = first_step
        while step < last_step:
            try:
                for batch in self._dataset(step, last_step).as_numpy_iterator():
                    yield batch
                    step += 1
            except tf.errors.OpError as error:
                self._note_corrupt(step, error)

    def _dataset(self, first_step: int, last_step: int) -> tf.data.Dataset:
        examples = self.share.stop - self.share.start

        def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            positions = self._positions(index)
            read = tf.numpy_function(self._read, (positions, self._rows(positions)), tf.string)
            return positions, tf.ensure_shape(read, positions.shape)

        dataset = tf.data.Dataset.range(first_step * examples, last_step * examples)
        dataset = dataset.batch(_READ_TOGETHER).map(read, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.unbatch().map(self._example, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.batch(examples, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def _positions(self, index: tf.Tensor) -> tf.Tensor:
        """The positions of this host's examples, which are counted from step 0 on."""
        examples = self.share.stop - self.share.start
        return index // examples * self.batch_size + self.share.start + index % examples

    def _rows(self, positions: tf.Tensor) -> tf.Tensor:
        """The rows of the split at some positions; beyond its end where evaluation pads."""
        if self.seed is None:
            return positions
        return order.shuffled_rows(positions, self.split.num_examples, self.seed)

    def _read(self, positions: np.ndarray, rows: np.ndarray) -> np.ndarray:
        pairs = zip(positions.tolist(), rows.tolist(), strict=True)
        return np.array([self._record(position, row) for position, row in pairs], object)

    def _record(self, position: int, row: int) -> bytes:
        """The record at a position, which is to be that row's; empty where there is none."""
        if self.seed is not None:
            return self.split.records[(row + self.corrupt[position]) % self.split.num_examples]
        is_padding = row >= self.split.num_examples or self.corrupt[position]
        return b"" if is_padding else self.split.records[row]

    def _example(self, position: tf.Tensor, record: tf.Tensor) -> Example:
        """What the record at a position becomes."""

        def decoded() -> Example:
            features = records.parse(record)
            image = tf.cast(self.image(features["image"], position), self.dtype)
            return {"image": image, "label": tf.cast(features["label"], tf.int32)}

        def padding() -> Example:
            shape = (self.split.image_size, self.split.image_size, 3)
            return {"image": tf.zeros(shape, self.dtype), "label": tf.constant(0)}

        if self.seed is not None:
            return decoded()
        is_example = tf.strings.length(record) > 0
        example = tf.cond(is_example, decoded, padding)
        return example | {"mask": tf.cast(is_example, tf.float32)}

    def _note_corrupt(self, step: int, error: tf.errors.OpError) -> None:
        """Counts the images that made a step fail.

        Raises:
            ValueError: that names the first of them, unless they are to be skipped.
            tf.errors.OpError: the given one, if no image explains it.
        """
        examples = self.share.stop - self.share.start
        # What is read together with the last ones may be of the next step.
        index = tf.range(step * examples, (step + 1) * examples + _READ_TOGETHER, dtype=tf.int64)
        positions = self._positions(index)
        rows = self._rows(positions).numpy().tolist()
        is_explained = False
        for position, row in zip(positions.numpy().tolist(), rows, strict=True):
            try:
                record = self._record(position, row)
            except (RuntimeError, ValueError, OSError) as cause:
                raise ValueError(
                    f"example {row} of {self.split.name} cannot be read from "
                    f"{self.split.file(row)}: {cause}"
                ) from error
            try:
                self._example(tf.constant(position, tf.int64), tf.constant(record))
            except tf.errors.InvalidArgumentError as cause:
                name = records.parse(record)["file_name"].numpy().decode()
                # TensorFlow puts names of its functions before and of its operations after.
                reason = cause.message.splitlines()[0].split("}} ")[-1].split(" [Op:")[0]
                message = f"image {name} of {self.split.name} cannot be decoded: {reason}"
                if not self.skip_corrupt:
                    raise ValueError(f"{message}; data.skip_corrupt=True skips it") from error
                logging.warning("%s; skipped", message)
                self.corrupt[position] += 1
                is_explained = True
        if not is_explained:
            raise error
