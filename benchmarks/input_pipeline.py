"""Images of ImageNet's input per second of processor time, against decoding them alone."""

import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from benchmarks import photos, timing
from benchmarks.benchmark import Row
from smh_jax import data
from smh_jax.data import preparation

BATCH_SIZE = 32
SIDE = 224
# Batches before and in each timed turn: buffers are as full at the beginning as at the end.
_WARM_UP, _TURN = 3, 16
_SIZES = ((500, 375), (375, 500), (500, 375), (500, 333))
_SYNSETS = ("n01440764", "n01443537")


def measure(case: str, repeats: int) -> list[Row]:
    """The row of one case, 'images:preprocessing:augmentation:dtype'.

    As many JPEGs like ImageNet's (500 x 375 pixels, 110 KB in the mean) are prepared as the trainer
    wants them. The trainer's own batches and decoding alone take turns; what is timed is the
    processor time of all threads, so that other work of the machine takes nothing from either.
    """
    count, preprocessing, augmentation, dtype = case.split(":")
    contents = [photos.jpeg(photos.photo(i, *_SIZES[i % len(_SIZES)])) for i in range(int(count))]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        files = [(f"{i}.JPEG", content) for i, content in enumerate(contents)]
        train = {synset: files[at :: len(_SYNSETS)] for at, synset in enumerate(_SYNSETS)}
        photos.write_tars(folder, train, files[:1])
        data_dir = str(folder / "data")
        preparation.prepare_imagenet(folder, data_dir, subset=True)
        info = data.describe("imagenet2012", data_dir, SIDE, preprocessing)
        batches = functools.partial(
            data.train_batches,
            data.load(info, "train", data_dir),
            info.normalization,
            batch_size=BATCH_SIZE,
            augmentation=augmentation,
            dtype=dtype,
            seed=0,
            first_step=0,
            last_step=10**6,
        )
        turns = {
            "input": lambda: _speed(batches()),
            "decoding": lambda: _speed(_decoded(contents)),
        }
        speeds = timing.in_turn(turns, repeats)
    return [
        {
            "preprocessing": preprocessing,
            "augmentation": augmentation,
            "dtype": dtype,
            "images_per_second": statistics.median(speeds["input"]),
            "ratio": timing.median_ratio(speeds["input"], speeds["decoding"]),
        }
    ]


def _decoded(contents: list[bytes]) -> Iterator[Any]:
    """Batches of images decoded whole, by the decoder that the trainer uses, and nothing else."""

    def decode(content: tf.Tensor) -> tf.Tensor:
        return tf.shape(tf.image.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE"))

    dataset = tf.data.Dataset.from_tensor_slices(contents).repeat()
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH_SIZE)
    return dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def _speed(batches: Iterator[Any]) -> float:
    """Images per second of one turn."""
    for _ in range(_WARM_UP):
        next(batches)
    begin = time.process_time()
    for _ in range(_TURN):
        next(batches)
    return _TURN * BATCH_SIZE / (time.process_time() - begin)
