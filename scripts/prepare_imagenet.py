"""Prepares tensorflow-datasets' `imagenet2012` from its official tar files.

    python -m scripts.prepare_imagenet --manual_dir=/data/tars --data_dir=/data/tensorflow_datasets

ILSVRC2012_img_train.tar (138 GiB) and ILSVRC2012_img_val.tar (6.3 GiB) can be downloaded from
https://image-net.org/download-images after registration. Takes one to two hours, and twice their
size on the disk while it lasts. The files are written as ArrayRecords, of which training reads any
example at any time; on a pod, put them in a bucket or on a disk that all hosts mount.
"""

from absl import flags
from etils import epath

from smh_jax import cli

MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of the tar files.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Of tensorflow-datasets; None for its default.")
SUBSET = flags.DEFINE_bool("subset", False, "Takes tar files of other sizes: a subset of ImageNet.")


def main(_: list[str]) -> None:
    """Prepares the dataset and prints its splits."""
    from smh_jax.data import preparation

    cli.say_only_warnings()
    source = epath.Path(MANUAL_DIR.value).expanduser()
    info = preparation.prepare_imagenet(source, DATA_DIR.value, SUBSET.value)
    counts = {name: split.num_examples for name, split in info.splits.items()}
    print(f"imagenet2012 is prepared in {info.data_dir}: {counts}")


if __name__ == "__main__":
    cli.run(main)
