"""The datasets a run can name, and how their splits are reached: in memory or in their files."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from smh_jax.config.buckets import check_reachable
from smh_jax.config.names import check_known
from smh_jax.data import (
    crops,
    digits,  # noqa: F401  (registers the builder)
    folder,
    transforms,
)
from smh_jax.data import normalization as normalizations
from smh_jax.data.normalization import Normalization

if TYPE_CHECKING:
    from smh_jax.data.records import RecordSplit


_NORMALIZATION = {
    "digits": Normalization((0.3049,), (0.3763,)),
    "fashion_mnist": Normalization((0.2860,), (0.3530,)),
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Normalization((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet2012": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

# Inception preprocessing scales pixels to -1..1, whatever the dataset.
_INCEPTION_NORMALIZATION = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# What prepares a dataset from files that one has, without internet.
_SCRIPTS = {
    "fashion_mnist": "python scripts/prepare_fashion_mnist.py --source=DIR",
    "imagenet2012": "python -m scripts.prepare_imagenet --manual_dir=DIR",
}

# Datasets that stay in their files, where images are of many sizes, by their usual resolution.
_STREAMED = {"imagenet2012": 224}

# To choose settings by, not on the evaluation split. Prepared datasets are shuffled: any range of
# the training split is a random sample.
_SPLITS = {"imagenet2012": {"minival": "train[:10000]", "minitrain": "train[10000:]"}}


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset of tensorflow-datasets' catalogue before it is prepared."""

    name: str
    image_shape: tuple[int, int, int]  # (height, width, channels) that the model sees.
    class_names: tuple[str, ...]  # In order of label.
    normalization: Normalization
    preprocessing: str = "plain"
    transform: str = "none"

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclasses.dataclass(frozen=True)
class Split:
    """Images [examples, height, width, channels], uint8, and labels [examples], int32."""

    images: np.ndarray
    labels: np.ndarray

    @property
    def num_examples(self) -> int:
        return len(self.labels)


def names() -> tuple[str, ...]:
    """The datasets whose normalization is known. A config can also name others.

    Those are folders of images (`smh_jax.data.folder`), and all of tensorflow-datasets' catalogue
    that classify images.
    """
    return tuple(_NORMALIZATION)


def _builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    if name not in names() and name.partition("/")[0] not in tfds.list_builders(
        with_community_datasets=False
    ):
        check_known(f"data.name={name!r}", name, names())
    builder = tfds.builder(name, data_dir=data_dir)
    features = builder.info.features
    is_dict = isinstance(features, tfds.features.FeaturesDict)
    if (
        not is_dict
        or not {"image", "label"} <= set(features)
        or not isinstance(features["label"], tfds.features.ClassLabel)
    ):
        raise ValueError(f"data.name={name!r} is not a dataset that classifies images")
    return builder


def describe(
    name: str,
    data_dir: str | None = None,
    image_size: int | None = None,
    preprocessing: str = "plain",
    transform: str = "none",
) -> DatasetInfo:
    """Describes a dataset; for the arguments see `DataConfig`.

    Mean and standard deviation of one that is not among `names()` are measured the first time, for
    which it is prepared.

    Raises:
        ValueError: for an unknown name, a preprocessing or a transform that the dataset's images
            are not made for, or a bucket that cannot be reached.
    """
    info = _describe(name, data_dir, image_size, preprocessing)
    transforms.check(transform, name, info.image_shape, in_files=name in _STREAMED)
    normalization = transforms.normalization_of(info.normalization, transform)
    return dataclasses.replace(info, normalization=normalization, transform=transform)


def _describe(
    name: str, data_dir: str | None, image_size: int | None, preprocessing: str
) -> DatasetInfo:
    """The dataset with its images as they are."""
    check_reachable(data_dir, "data.data_dir")
    if preprocessing != "plain" and name not in _STREAMED:
        raise ValueError(
            f"data.preprocessing={preprocessing!r} is for images of many sizes "
            f"({', '.join(_STREAMED)}); data.name={name!r} takes 'plain'"
        )
    if name.startswith(folder.PREFIX):
        return _describe_folder(name, data_dir, image_size)
    builder = _builder(name, data_dir)
    features = builder.info.features
    height, width, channels = features["image"].shape
    side = image_size or _STREAMED.get(name)
    if (height is None or width is None) and side is None:
        raise ValueError(
            f"data.image_size=None: the images of data.name={name!r} differ in size; give one, "
            "such as --config.data.image_size=64"
        )
    shape, class_names = (side or height, side or width, channels), tuple(features["label"].names)
    if name in names():
        normalization = _NORMALIZATION[name]
    else:
        key = f"{name.replace('/', '_')}-{builder.version}-{'x'.join(map(str, shape))}"
        if (height, width) != shape[:2]:
            # Before they were cropped, other values were measured.
            key += "-cropped"
        normalization = normalizations.stored(
            key, data_dir, lambda: _read(builder, "train", shape)[0]
        )
    if preprocessing == "inception":
        normalization = _INCEPTION_NORMALIZATION
    return DatasetInfo(name, shape, class_names, normalization, preprocessing)


def _describe_folder(name: str, data_dir: str | None, image_size: int | None) -> DatasetInfo:
    images = folder.open_folder(name)
    shape = images.shape(image_size)
    key = f"{images.root.name}-{images.digest}-{'x'.join(map(str, shape))}"
    normalization = normalizations.stored(
        key, data_dir, lambda: folder.read(images.select("train"), shape)[0]
    )
    return DatasetInfo(name, shape, images.class_names, normalization)


def check_augmentation(info: DatasetInfo, augmentation: str) -> None:
    """Raises ValueError for an augmentation that is not made for the dataset's images."""
    if augmentation in ("autoaugment_v0", "randaugment") and info.name not in _STREAMED:
        raise ValueError(
            f"data.augmentation={augmentation!r} is for {', '.join(_STREAMED)}; "
            f"data.name={info.name!r} takes 'none', 'crop' or 'crop_flip'"
        )


def load(info: DatasetInfo, split: str, data_dir: str | None = None) -> "Split | RecordSplit":
    """Reads a split into memory, or opens one that stays in its files.

    A dataset that fits in memory is prepared first where that has not been done, and its images
    are cropped to the middle and resized to those of `info` by area averages. For the other
    arguments see `DataConfig`.

    Raises:
        ValueError: if the dataset can be neither found nor prepared, is not whole, or has no such
            split.
    """
    if data_dir is not None and not epath.Path(data_dir).is_dir():
        raise ValueError(f"data.data_dir={data_dir} is not a folder; make it to prepare data there")
    if info.name.startswith(folder.PREFIX):
        images = folder.open_folder(info.name).select(split)
        return _split(info, *folder.read(images, info.image_shape))
    builder = _builder(info.name, data_dir)
    if info.name in _STREAMED:
        split = _SPLITS[info.name].get(split, split)
        from smh_jax.data.records import open_split

        return open_split(builder, split, info.image_shape[0], info.preprocessing)
    return _split(info, *_read(builder, split, info.image_shape))


def _split(info: DatasetInfo, images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(transforms.transformed(images, info.transform), labels)


def _read(
    builder: tfds.core.DatasetBuilder, split: str, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8, of a shape, and labels, int32; prepares the dataset where that is left."""
    name = builder.info.full_name if builder.name not in names() else builder.name
    try:
        if not builder.is_prepared() and builder.url_infos:
            # Takes a while to load, and describing a dataset does without.
            import requests

            # Without a network, downloading would be tried again for minutes.
            requests.head(next(iter(builder.url_infos)), timeout=5)
        builder.download_and_prepare()
    except Exception as error:
        # Whatever goes wrong in a download comes as one of many unrelated types.
        script = f", or `{_SCRIPTS[name]}` from files that you have" if name in _SCRIPTS else ""
        raise ValueError(
            f"data.name={name!r} is not prepared in data_dir={builder.data_dir} and could not be "
            f"downloaded; prepare it where there is internet, and copy that folder{script}: {error}"
        ) from error
    height, width, _ = builder.info.features["image"].shape
    with _whole(name, builder):
        try:
            together = -1 if height and width else None
            dataset = builder.as_dataset(split=split, batch_size=together, shuffle_files=False)
        except (ValueError, AssertionError) as error:
            raise ValueError(
                f"data split {split!r} is not a part of {name}, "
                f"whose splits are {', '.join(builder.info.splits)}: {error}"
            ) from error
        if together is None:
            # Each of its own size.
            examples = [(_resized(e["image"][None], shape), e["label"]) for e in dataset]
            images, labels = zip(*examples, strict=True)
            return np.concatenate(images), np.asarray(labels, np.int32)
        images, labels = np.asarray(dataset["image"]), np.asarray(dataset["label"], np.int32)
        return images if images.shape[1:] == shape else _resized(images, shape), labels


@contextlib.contextmanager
def _whole(name: str, builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    """Names the dataset in an error of reading its files."""
    try:
        yield
    except Exception as error:
        # It takes seconds to load, and is loaded by now.
        import tensorflow as tf

        if not isinstance(error, tf.errors.OpError):
            raise
        reason = error.message.splitlines()[0]
        raise ValueError(
            f"data.name={name!r} in data_dir={builder.data_dir} is not whole ({reason}): "
            "prepare or copy it anew"
        ) from error


def _resized(images: Any, shape: tuple[int, int, int]) -> np.ndarray:
    # Takes seconds to load, and describing a dataset does without.
    import tensorflow as tf

    top, left, height, width = crops.centered(tuple(images.shape[1:3]), shape[:2])
    images = images[:, top : top + height, left : left + width]
    resized = tf.image.resize(images, shape[:2], method="area")
    return np.round(resized.numpy()).astype(np.uint8)
