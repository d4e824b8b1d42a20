"""Datasets that are folders of image files: `folder:/path`, one subfolder for each class.

    /path/tulips/1.jpg  /path/roses/7.png                      a fifth is the test split
    /path/train/tulips/1.jpg ... /path/test/tulips/9.jpg       splits of one's own

Which fifth depends on the names of the files alone. Files are in an order that looks random, so
that a range such as 'train[:90%]' is a random sample. All images are kept in memory.
"""

import dataclasses
import functools
import hashlib
import pathlib
import types
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow_datasets as tfds

PREFIX = "folder:"
_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Of 8 bits: others would be clipped.
_GRAY, _COLOR = ("1", "L", "LA"), ("P", "RGB", "RGBA", "CMYK", "YCbCr")
_TEST_SHARE = 5


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The files of a folder, by split, each with its label.

    Attributes:
        root: the folder.
        class_names: of the labels, sorted.
        files: path and label of each example, by split.
    """

    root: pathlib.Path
    class_names: tuple[str, ...]
    files: Mapping[str, tuple[tuple[pathlib.Path, int], ...]]

    @property
    def digest(self) -> str:
        """Of the names and sizes of all files: whether what was measured of them still holds."""
        digest = hashlib.sha256()
        for split, files in self.files.items():
            for path, label in files:
                about = (split, path.relative_to(self.root), label, path.stat().st_size)
                digest.update(repr(tuple(map(str, about))).encode())
        return digest.hexdigest()[:16]

    @functools.cached_property
    def channels(self) -> int:
        """1 if all images are gray, else 3."""
        return 1 if all(_mode(path) in _GRAY for path, _ in self._all) else 3

    def shape(self, image_size: int | None) -> tuple[int, int, int]:
        """(height, width, channels) of the images at that size, or as they are.

        Raises:
            ValueError: if no size is given and the images have several.
        """
        if image_size is not None:
            return image_size, image_size, self.channels
        sizes = {_size(path) for path, _ in self._all}
        if len(sizes) > 1:
            raise ValueError(
                f"data.image_size=None: the images of {PREFIX}{self.root} are of {len(sizes)} "
                "sizes; give one, such as --config.data.image_size=64"
            )
        (width, height) = sizes.pop()
        return height, width, self.channels

    def select(self, split: str) -> tuple[tuple[pathlib.Path, int], ...]:
        """The files of a split in tensorflow-datasets' notation, such as 'train[:90%]'.

        Raises:
            ValueError: if there is no such split, or nothing in it.
        """
        sizes = {
            name: types.SimpleNamespace(num_examples=len(files))
            for name, files in self.files.items()
        }
        try:
            parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(sizes)
        except (ValueError, AssertionError, KeyError) as error:
            raise self._no_split(split) from error
        selected = [f for p in parts for f in self.files[p.splitname][p.from_ : p.to]]
        if not selected:
            raise self._no_split(split)
        return tuple(selected)

    def _no_split(self, split: str) -> ValueError:
        known = ", ".join(f"{name} ({len(files)} images)" for name, files in self.files.items())
        return ValueError(
            f"data split {split!r} is not a part of {PREFIX}{self.root}, whose splits are {known}"
        )

    @property
    def _all(self) -> list[tuple[pathlib.Path, int]]:
        return [file for files in self.files.values() for file in files]


def open_folder(name: str) -> ImageFolder:
    """Lists the folder of a dataset that is called 'folder:/path'.

    Raises:
        ValueError: if there is no such folder, or it holds no images in at least two classes.
    """
    root = pathlib.Path(name.removeprefix(PREFIX)).expanduser().resolve()
    if not root.is_dir():
        raise ValueError(f"data.name={name!r}: {root} is not a folder")
    if (root / "train").is_dir() and (root / "test").is_dir():
        roots = {split: root / split for split in ("train", "test")}
        class_names = _classes(roots["train"])
        listed = {split: _files(folder, class_names) for split, folder in roots.items()}
        if extra := set(_classes(roots["test"])) - set(class_names):
            raise ValueError(f"data.name={name!r}: test has classes that train has not: {extra}")
    else:
        class_names = _classes(root)
        files = _files(root, class_names)
        is_test = [_number(path.relative_to(root)) % _TEST_SHARE == 0 for path, _ in files]
        listed = {
            "train": [file for file, test in zip(files, is_test, strict=True) if not test],
            "test": [file for file, test in zip(files, is_test, strict=True) if test],
        }
    if len(class_names) < 2 or not all(listed.values()):
        raise ValueError(
            f"data.name={name!r}: {root} must have a subfolder of images for each of at least two "
            f"classes, or such folders in train and test; it has {len(class_names)} classes, "
            f"{len(listed['train'])} training and {len(listed['test'])} test images"
        )
    return ImageFolder(root, class_names, {split: tuple(files) for split, files in listed.items()})


def read(
    files: Sequence[tuple[pathlib.Path, int]], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8, cropped to the middle and averaged to a shape, and their labels, int32.

    Raises:
        ValueError: if a file is not an image of 8 bits that can be read.
    """
    images = np.zeros((len(files), *shape), np.uint8)
    for index, (path, _) in enumerate(files):
        _mode(path)
        try:
            with PIL.Image.open(path) as image:
                image = PIL.ImageOps.exif_transpose(image).convert("L" if shape[2] == 1 else "RGB")
        except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
            raise _unreadable(path, error) from error
        fitted = PIL.ImageOps.fit(image, (shape[1], shape[0]), PIL.Image.Resampling.BOX)
        images[index] = np.asarray(fitted).reshape(shape)
    return images, np.asarray([label for _, label in files], np.int32)


def _classes(root: pathlib.Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] != "."))


def _files(root: pathlib.Path, class_names: Sequence[str]) -> list[tuple[pathlib.Path, int]]:
    files = [
        (path, label)
        for label, name in enumerate(class_names)
        for path in (root / name).rglob("*")
        if path.suffix.lower() in _ENDINGS
    ]
    return sorted(files, key=lambda file: _number(file[0].relative_to(root)))


def _number(path: pathlib.Path) -> int:
    """Looks random, and is the same on every machine."""
    return int.from_bytes(hashlib.sha256(path.as_posix().encode()).digest()[:8])


def _mode(path: pathlib.Path) -> str:
    try:
        with PIL.Image.open(path) as image:
            mode = image.mode
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    if mode not in (*_GRAY, *_COLOR):
        raise _unreadable(path, f"it is of mode {mode}, not of 8 bits")
    return mode


def _size(path: pathlib.Path) -> tuple[int, int]:
    with PIL.Image.open(path) as image:
        return image.size


def _unreadable(path: pathlib.Path, why: object) -> ValueError:
    return ValueError(f"{path} is not an image that can be read: {why}")
