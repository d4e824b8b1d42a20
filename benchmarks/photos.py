"""JPEGs like ImageNet's, and tar files of them like the official ones, from two photographs.

Each image is another part of one of scikit-learn's sample photographs, with the noise of a camera.
"""

import io
import pathlib
import tarfile
from collections.abc import Iterable, Mapping

import numpy as np
import sklearn.datasets
from PIL import Image

# Deviation of the noise; with it and this quality an image of 500 x 375 has ImageNet's mean size.
_NOISE = 10.0
_QUALITY = 94


def photo(index: int, width: int, height: int) -> Image.Image:
    """The photograph of a number, in color."""
    random = np.random.default_rng(index)
    images = sklearn.datasets.load_sample_images().images
    whole = Image.fromarray(images[index % len(images)])
    share = random.uniform(0.5, 1.0) * min(whole.width / width, whole.height / height)
    size = (share * width, share * height)
    left, top = (random.uniform(0, w - s) for w, s in zip(whole.size, size, strict=True))
    box = (left, top, left + size[0], top + size[1])
    pixels = np.asarray(whole.resize((width, height), Image.Resampling.BICUBIC, box), np.float32)
    noisy = pixels + random.normal(0.0, _NOISE, pixels.shape)
    return Image.fromarray(np.clip(np.round(noisy), 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = _QUALITY) -> bytes:
    """The encoded image."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def write_tars(
    folder: pathlib.Path,
    train: Mapping[str, Iterable[tuple[str, bytes]]],
    validation: Iterable[tuple[str, bytes]],
) -> None:
    """Writes ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into a folder.

    Image files are names and contents; those for training are by synset, such as 'n01440764'.
    """
    synsets = ((f"{synset}.tar", _tar(files)) for synset, files in train.items())
    (folder / "ILSVRC2012_img_train.tar").write_bytes(_tar(synsets))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(_tar(validation))


def _tar(files: Iterable[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
