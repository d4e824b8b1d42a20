"""Mean and standard deviation of a dataset's images: known, or measured once and stored."""

import dataclasses
import json
import os
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from smh_jax.config.files import write_json

# A channel that never changes is divided by one.
_MIN_STDDEV = 1e-4
# Images at once, so that their squares need little memory.
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Per-channel mean and standard deviation of the training images on the scale 0..1."""

    mean: tuple[float, ...]
    stddev: tuple[float, ...]


def measure(images: np.ndarray) -> Normalization:
    """Of images [examples, height, width, channels], uint8."""
    sums = np.zeros((2, images.shape[-1]))
    for first in range(0, len(images), _CHUNK):
        chunk = images[first : first + _CHUNK] / 255.0
        sums += [chunk.sum((0, 1, 2)), np.square(chunk).sum((0, 1, 2))]
    mean, square = sums / np.prod(images.shape[:3])
    stddev = np.sqrt(np.maximum(square - mean**2, 0.0))
    stddev = np.where(stddev < _MIN_STDDEV, 1.0, stddev)
    return Normalization(tuple(map(float, mean.round(4))), tuple(map(float, stddev.round(4))))


def stored(key: str, data_dir: str | None, read_images: Callable[[], np.ndarray]) -> Normalization:
    """What was measured under a key, or is now; stored where tensorflow-datasets keeps its data.

    Args:
        key: a file name; other images have another one.
        data_dir: of tensorflow-datasets; None for that library's default.
        read_images: gives the training images, if they have to be measured.
    """
    folder = epath.Path(data_dir or os.fspath(tfds.core.constants.DATA_DIR)).expanduser()
    path = folder / "smh_jax_normalization" / f"{key}.json"
    if path.exists():
        content = json.loads(path.read_text())
        return Normalization(tuple(content["mean"]), tuple(content["stddev"]))
    measured = measure(read_images())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dataclasses.asdict(measured))
    logging.info("%s: mean %s, deviation %s, measured once", key, measured.mean, measured.stddev)
    return measured
