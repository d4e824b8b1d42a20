"""Other libraries' training input, timed for benchmarks.input_pipeline in a process of its own.

    python -m benchmarks.input_peers FOLDER 224 32 16

serves (benchmarks.other_process) turns of 16 batches of 32 images of 224 pixels, made of the JPEGs
in a folder, which are held in memory. Each library does what its users do: torchvision the crops,
flips and colors of its own recipe (references/classification/presets.py), on tensors and on
Pillow's images, in this process alone; grain the same on Pillow's images, in its threads.
"""

import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import grain
import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from benchmarks import other_process

_MEAN, _STDDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_AREA, _ASPECT, _TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
# Little is prepared between the turns.
_THREADS, _BUFFER = 2, 16


def _torchvision(contents: list[bytes], side: int, size: int, pillow: bool) -> Iterator[Any]:
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(side, antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.PILToTensor()] if pillow else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(_MEAN, _STDDEV),
        ]
    )

    def image(content: bytes) -> torch.Tensor:
        if pillow:
            return transform(Image.open(BytesIO(content)).convert("RGB"))
        encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        mode = torchvision.io.ImageReadMode.RGB
        return transform(torchvision.io.decode_jpeg(encoded, mode))

    random = np.random.default_rng(0)
    while True:
        yield torch.stack([image(contents[i]) for i in random.integers(len(contents), size=size)])


def _grain(contents: list[bytes], side: int, size: int) -> Iterator[Any]:
    mean, stddev = (255 * np.asarray(values, np.float32) for values in (_MEAN, _STDDEV))

    def image(content: bytes, random: np.random.Generator) -> np.ndarray:
        with Image.open(BytesIO(content)) as opened:
            whole = opened.convert("RGB")
        cropped = whole.resize((side, side), Image.Resampling.BILINEAR, _window(whole, random))
        pixels = np.asarray(cropped)
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        return (pixels - mean) / stddev

    dataset = grain.MapDataset.source(contents).seed(0).shuffle().repeat().random_map(image)
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_BUFFER)
    return iter(dataset.to_iter_dataset(options).batch(size))


def _window(image: Image.Image, random: np.random.Generator) -> tuple[float, ...]:
    """Left, upper, right and lower border of a random crop, as torchvision draws it."""
    for _ in range(_TRIES):
        area = random.uniform(*_AREA) * image.width * image.height
        aspect = np.exp(random.uniform(*np.log(_ASPECT)))
        width, height = np.sqrt(area * aspect), np.sqrt(area / aspect)
        if width <= image.width and height <= image.height:
            left = random.uniform(0, image.width - width)
            upper = random.uniform(0, image.height - height)
            return left, upper, left + width, upper + height
    return 0, 0, image.width, image.height


def _turn(batches: Iterator[Any], count: int) -> Callable[[], None]:
    def turn() -> None:
        for _ in range(count):
            next(batches)

    return turn


if __name__ == "__main__":
    folder, *numbers_ = sys.argv[1:]
    side_, size_, count_ = map(int, numbers_)
    torch.set_num_threads(1)
    contents_ = [path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())]
    candidates = {
        "torchvision": _torchvision(contents_, side_, size_, pillow=False),
        "torchvision, Pillow": _torchvision(contents_, side_, size_, pillow=True),
        "grain, Pillow": _grain(contents_, side_, size_),
    }
    versions = {"torchvision": torchvision.__version__, "grain": grain.__version__}
    turns = {name: _turn(batches, count_) for name, batches in candidates.items()}
    other_process.serve(turns, {"versions": versions})
