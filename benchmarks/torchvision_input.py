"""torchvision's training input, measured in a process of its own for benchmarks.input_pipeline.

TensorFlow and PyTorch are not loaded together: some of their builds crash each other. Takes on the
command line a folder of JPEGs and the batch size, number of batches, of batches before them and
side; reads names of pipelines from the standard input, and answers each with images per second of
processor time.
"""

import functools
import itertools
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2


def batches(name: str, paths: list[str], batch_size: int, side: int) -> Iterator[Any]:
    """Endless batches of torchvision's reference recipe: by Pillow, or on tensors."""
    tensors = "tensors" in name
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(side, interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            *([v2.AutoAugment()] if "AutoAugment" in name else []),
            *([] if tensors else [v2.PILToTensor()]),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    rgb = torchvision.io.ImageReadMode.RGB
    read = functools.partial(torchvision.io.decode_image, mode=rgb) if tensors else Image.open

    def collate(paths: list[str]) -> Any:
        return torch.utils.data.default_collate([transform(read(path)) for path in paths])

    # A list of paths is a data set of them.
    loader = torch.utils.data.DataLoader(
        paths, batch_size, shuffle=True, drop_last=True, collate_fn=collate
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def main(folder: str, *numbers: str) -> None:
    """Answers until the standard input ends."""
    batch_size, num_batches, warm_up, side = map(int, numbers)
    torch.set_num_threads(1)
    paths = [str(path) for path in sorted(pathlib.Path(folder).glob("*.JPEG"))]
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}", flush=True)
    for line in sys.stdin:
        stream = batches(line.strip(), paths, batch_size, side)
        for _ in range(warm_up):
            next(stream)
        begin = time.process_time()
        for _ in range(num_batches):
            next(stream)
        print(num_batches * batch_size / (time.process_time() - begin), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
