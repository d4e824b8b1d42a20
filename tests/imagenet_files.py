"""A small ImageNet: tar files like the official ones, prepared by the catalogue's builder."""

import pathlib

from benchmarks import photos
from smh_jax.data import preparation

# Of each synset as many images as there are sizes. One name is that of an image that the original
# has in CMYK, which the builder converts.
SIZES = ((96, 72), (72, 96), (64, 64), (128, 80), (50, 49), (81, 100))
SYNSETS = ("n01440764", "n01739381", "n02123045")
GREY = "n01440764_0.JPEG"
CMYK = "n01739381_1309.JPEG"
NUM_TRAIN = len(SIZES) * len(SYNSETS)
NUM_VALIDATION = 10


def train_files() -> dict[str, list[tuple[str, bytes]]]:
    """Names and contents by synset."""
    files: dict[str, list[tuple[str, bytes]]] = {}
    for i, synset in enumerate(SYNSETS):
        files[synset] = []
        for j, size in enumerate(SIZES):
            name, image = f"{synset}_{j}.JPEG", photos.photo(len(SIZES) * i + j, *size)
            if name == GREY:
                image = image.convert("L")
            if synset in CMYK and j == 1:
                name, image = CMYK, image.convert("CMYK")
            files[synset].append((name, photos.jpeg(image)))
    return files


def validation_files() -> list[tuple[str, bytes]]:
    """Names and contents."""
    return [
        (f"ILSVRC2012_val_{i + 1:08d}.JPEG", photos.jpeg(photos.photo(100 + i, 90, 70 + i)))
        for i in range(NUM_VALIDATION)
    ]


def prepare(folder: pathlib.Path, **changes: bytes) -> str:
    """Writes the tar files and prepares them.

    Args:
        folder: of `tars` and `data`.
        **changes: other contents of images by name without '.JPEG'.

    Returns:
        The data_dir.
    """
    tars = folder / "tars"
    tars.mkdir()

    def changed(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        return [(name, changes.get(name.removesuffix(".JPEG"), file)) for name, file in files]

    train = {synset: changed(files) for synset, files in train_files().items()}
    photos.write_tars(tars, train, changed(validation_files()))
    preparation.prepare_imagenet(tars, str(folder / "data"), subset=True)
    return str(folder / "data")
