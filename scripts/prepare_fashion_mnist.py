"""Prepares tensorflow-datasets' `fashion_mnist` from its four original files, without internet.

    python scripts/prepare_fashion_mnist.py --source=/usr/share/datasets/fashion-mnist

The files are `{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz`, as Debian's package
`dataset-fashion-mnist` installs them. Their uncompressed content is checked against the originals'.
"""

import gzip
import hashlib
from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from smh_jax import cli

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

SOURCE = flags.DEFINE_string("source", None, "Folder of the four files.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Of tensorflow-datasets; None for its default.")

# SHA-256 of the uncompressed files. The compressed ones differ between distributors.
FILES = {
    "train-images-idx3-ubyte.gz": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte.gz": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}


def prepare(source: epath.PathLike, data_dir: str | None) -> "tfds.core.DatasetInfo":
    """Prepares the dataset and returns its description.

    Raises:
        ValueError: if a file is missing or is not the original; the message names it.
    """
    source = epath.Path(source)
    for name, official in FILES.items():
        path = source / name
        if not path.is_file():
            raise ValueError(f"--source={source} has no file {name}")
        try:
            digest = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
        except (OSError, EOFError) as error:
            raise ValueError(f"{path} is not a gzip file: {error}") from error
        if digest != official:
            raise ValueError(f"{path} is not the original: SHA-256 {digest}, expected {official}")

    import tensorflow_datasets as tfds

    from smh_jax.data import preparation

    address = tfds.builder_cls("fashion_mnist").URL
    files = {address + name: source / name for name in FILES}
    return preparation.prepare_local_files("fashion_mnist", files, data_dir)


def main(_: list[str]) -> None:
    """Prepares the dataset and prints its splits."""
    info = prepare(SOURCE.value, DATA_DIR.value)
    counts = {name: split.num_examples for name, split in info.splits.items()}
    print(f"fashion_mnist is prepared in {info.data_dir}: {counts}")


if __name__ == "__main__":
    cli.run(main)
