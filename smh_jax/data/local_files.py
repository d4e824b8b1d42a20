"""Preparing a catalogued dataset from local copies of its files, for machines without internet."""

import pathlib
from collections.abc import Mapping

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums


def prepare(
    name: str, files: Mapping[str, pathlib.Path], data_dir: str | None = None
) -> tfds.core.DatasetInfo:
    """Prepares a dataset with the catalogue's own builder.

    The catalogue checks what it downloads against known checksums. Local copies can have been
    compressed anew, so their content is to be checked by the caller.

    Args:
        name: of the dataset in the catalogue.
        files: local copy, in one folder, of each file by the address that the builder knows.
        data_dir: where tensorflow-datasets keeps it; None for that library's default.

    Returns:
        The description of the prepared dataset.
    """
    catalogued = tfds.builder_cls(name)
    local = {url: checksums.compute_url_info(path) for url, path in files.items()}
    with tfds.core.registered.skip_registration():
        builder_class = type(
            catalogued.__name__,
            (catalogued,),
            {
                "name": name,
                "pkg_dir_path": catalogued.pkg_dir_path,
                "url_infos": local,
                "__module__": catalogued.__module__,
            },
        )
    (folder,) = {path.parent for path in files.values()}
    builder = builder_class(data_dir=data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=folder),
    )
    return builder.info
