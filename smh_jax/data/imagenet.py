"""Preparing tensorflow-datasets' `imagenet2012` from its official tar files."""

import pathlib

import tensorflow_datasets as tfds

from smh_jax.data import records

# Sizes in bytes of the official files.
FILES = {
    "ILSVRC2012_img_train.tar": 147_897_477_120,
    "ILSVRC2012_img_val.tar": 6_744_924_160,
}


def prepare(
    source: pathlib.Path, data_dir: str | None, subset: bool = False
) -> tfds.core.DatasetInfo:
    """Prepares the dataset, unless it is prepared already, and returns its description.

    Args:
        source: folder of the tar files.
        data_dir: where tensorflow-datasets keeps it; None for that library's default.
        subset: takes tar files of any size.

    Raises:
        ValueError: if a file is missing, is not whole or is not a tar file of images; the message
            names it.
    """
    builder = tfds.builder("imagenet2012", data_dir=data_dir)
    if builder.info.splits:
        # Whatever it was prepared as, it is not prepared again: opening it says what is missing.
        for split in builder.info.splits:
            records.open_split(builder, split, image_size=224, preprocessing="plain")
        return builder.info
    for name, size in FILES.items():
        path = source / name
        if not path.is_file():
            raise ValueError(f"--manual_dir={source} has no file {name}")
        found = path.stat().st_size
        if found != size and not subset:
            raise ValueError(
                f"{path} has {found:,} bytes, the official file {size:,}: it may not be whole; "
                "--subset takes it as a part of ImageNet"
            )
    builder = tfds.builder("imagenet2012", data_dir=data_dir, file_format=records.FILE_FORMAT)
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=str(source))
        )
    except Exception as error:
        # Whatever is wrong with a tar file comes as one of many unrelated types.
        raise ValueError(
            f"imagenet2012 could not be prepared from {source}: {type(error).__name__}: {error}"
        ) from error
    return builder.info
