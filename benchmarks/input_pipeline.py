"""Images of ImageNet's input per second of processor time, against decoding and other libraries."""

import contextlib
import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import other_process, photos, timing
from benchmarks.benchmark import Row
from smh_jax import cli, data
from smh_jax.data import preparation
from smh_jax.data.records import RecordSplit

OURS = "smh_jax"
BATCH_SIZE = 32
SIDE = 224
# Batches before and in each timed turn: buffers are as full at the beginning as at the end.
_WARM_UP, _TURN = 3, 16
_SIZES = ((500, 375), (375, 500), (500, 375), (500, 333))
_SYNSETS = ("n01440764", "n01443537")


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'images:preprocessing:augmentation:dtype', ':peers' for other libraries.

    As many JPEGs like ImageNet's (500 x 375 pixels, 110 KB in the mean) are prepared as the trainer
    wants them. The trainer's own batches, decoding and reading alone, and the peers take turns;
    what is timed is the processor time of all threads, so that other work of the machine takes
    nothing from either. Peers hold the JPEGs in memory, where the trainer reads its records.

    Raises:
        ValueError: if a peer is missing; the message says how to install it.
    """
    with_peers = case.endswith(":peers")
    if with_peers:
        for module in ("torch", "torchvision", "grain"):
            cli.require(module, "peer")
    count, preprocessing, augmentation, dtype = case.removesuffix(":peers").split(":")
    contents = [photos.jpeg(photos.photo(i, *_SIZES[i % len(_SIZES)])) for i in range(int(count))]
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        split, batches = _input(contents, folder, preprocessing, augmentation, dtype)
        turns = {
            OURS: lambda: _speed(batches()),
            "decoding": lambda: _speed(_decoded(contents)),
            "reading": lambda: _speed(_read(split)),
        }
        if with_peers:
            turns |= stack.enter_context(_peers(contents, folder))
        speeds = timing.in_turn(turns, repeats)
    return [
        {
            "library": library,
            "preprocessing": preprocessing if library == OURS else "its own recipe's",
            "augmentation": augmentation if library == OURS else "none",
            "dtype": dtype if library == OURS else "float32",
            "images_per_second": statistics.median(speeds[library]),
            "quartiles": timing.quartiles(speeds[library], ".0f"),
            "ratio": timing.median_ratio(speeds[library], speeds["decoding"]),
            "read_per_second": statistics.median(speeds["reading"]) if library == OURS else None,
        }
        for library in speeds
        if library not in ("decoding", "reading")
    ]


def _input(
    contents: list[bytes], folder: pathlib.Path, preprocessing: str, augmentation: str, dtype: str
) -> tuple[RecordSplit, Callable[[], Iterator[Any]]]:
    """ImageNet in small, prepared in a folder, and the trainer's batches of it."""
    files = [(f"{i}.JPEG", content) for i, content in enumerate(contents)]
    train = {synset: files[at :: len(_SYNSETS)] for at, synset in enumerate(_SYNSETS)}
    photos.write_tars(folder, train, files[:1])
    data_dir = str(folder / "data")
    preparation.prepare_imagenet(folder, data_dir, subset=True)
    info = data.describe("imagenet2012", data_dir, SIDE, preprocessing)
    split = data.load(info, "train", data_dir)
    batches = functools.partial(
        data.train_batches,
        split,
        info.normalization,
        batch_size=BATCH_SIZE,
        augmentation=augmentation,
        dtype=dtype,
        seed=0,
        first_step=0,
        last_step=10**6,
    )
    return split, batches


@contextlib.contextmanager
def _peers(contents: list[bytes], folder: pathlib.Path) -> Iterator[dict[str, Callable[[], float]]]:
    """Turns of other libraries, by name: images per processor second."""
    jpegs = folder / "jpegs"
    jpegs.mkdir()
    for index, content in enumerate(contents):
        (jpegs / f"{index:05}.JPEG").write_bytes(content)
    numbers = map(str, (SIDE, BATCH_SIZE, _TURN))
    with other_process.started("benchmarks.input_peers", str(jpegs), *numbers) as (facts, call):

        def speed(name: str) -> float:
            return _TURN * BATCH_SIZE / call(name).processor

        for name in facts["candidates"]:
            speed(name)
        yield {name: functools.partial(speed, name) for name in facts["candidates"]}


def _read(split: RecordSplit) -> Iterator[list[bytes]]:
    """Batches of records in random order, and nothing else: what one thread does for all others."""
    random = np.random.default_rng(0)
    while True:
        rows = random.integers(split.num_examples, size=BATCH_SIZE)
        yield [split.records[row] for row in rows.tolist()]


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
