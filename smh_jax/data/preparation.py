"""Preparing catalogued datasets from files that the user has, on disk or in a bucket."""

from collections.abc import Mapping

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.download import checksums

from smh_jax.data import records

# Sizes in bytes of the official files.
_IMAGENET_FILES = {
    "ILSVRC2012_img_train.tar": 147_897_477_120,
    "ILSVRC2012_img_val.tar": 6_744_924_160,
}


def prepare_local_files(
    name: str, files: Mapping[str, epath.PathLike], data_dir: str | None = None
) -> tfds.core.DatasetInfo:
    """Prepares a dataset with the catalogue's own builder, without internet; its description.

    The catalogue checks what it downloads against known checksums. Local copies can have been
    compressed anew, so the caller has to check their content.

    Args:
        name: of the dataset in the catalogue.
        files: local copies, all in one folder, by the address that the builder knows.
        data_dir: where tensorflow-datasets keeps it; None for that library's default.
    """
    paths = {url: epath.Path(path) for url, path in files.items()}
    catalogued = tfds.builder_cls(name)
    with tfds.core.registered.skip_registration():
        attributes = {
            "name": name,
            "pkg_dir_path": catalogued.pkg_dir_path,
            "url_infos": {url: checksums.compute_url_info(paths[url]) for url in paths},
            "__module__": catalogued.__module__,
        }
        builder_class = type(catalogued.__name__, (catalogued,), attributes)
    (folder,) = {path.parent for path in paths.values()}
    builder = builder_class(data_dir=data_dir)
    download_config = tfds.download.DownloadConfig(manual_dir=folder)
    builder.download_and_prepare(download_config=download_config)
    return builder.info


def prepare_imagenet(
    source: epath.PathLike, data_dir: str | None, subset: bool = False
) -> tfds.core.DatasetInfo:
    """Prepares `imagenet2012`, unless it is prepared already, and returns its description.

    Args:
        source: folder of the official tar files.
        data_dir: where tensorflow-datasets keeps it; None for that library's default.
        subset: takes tar files of any size.

    Raises:
        ValueError: if a file is missing, is not whole or is not a tar file of images; the message
            names it.
    """
    builder = tfds.builder("imagenet2012", data_dir=data_dir)
    if builder.info.splits:
        # Whatever its file format, it is not prepared again: opening it says what is missing.
        for split in builder.info.splits:
            records.open_split(builder, split, image_size=224, preprocessing="plain")
        return builder.info
    source = epath.Path(source)
    for name, official_size in _IMAGENET_FILES.items():
        path = source / name
        if not path.is_file():
            raise ValueError(f"--manual_dir={source} has no file {name}")
        size = path.stat().length
        if size != official_size and not subset:
            raise ValueError(
                f"{path} has {size:,} bytes, the official file {official_size:,}: it may not be "
                "whole; --subset takes it as a subset of ImageNet"
            )
    builder = tfds.builder("imagenet2012", data_dir=data_dir, file_format=records.FILE_FORMAT)
    download_config = tfds.download.DownloadConfig(manual_dir=source)
    try:
        builder.download_and_prepare(download_config=download_config)
    except Exception as error:
        # Whatever is wrong with a tar file comes as one of many unrelated types.
        raise ValueError(
            f"imagenet2012 could not be prepared from {source}: {type(error).__name__}: {error}"
        ) from error
    return builder.info
