"""Splits that stay in their files: random access to the records of a prepared dataset.

The files are ArrayRecords, on disk or in a bucket, whose every record can be read on its own. That
is what makes a global shuffle, and resuming at any step, cost nothing.
"""

import bisect
import concurrent.futures
import dataclasses
import itertools
import os
import resource
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from etils import epath
from tensorflow_datasets.core.data_sources import base
from tensorflow_datasets.core.utils.shard_utils import FileInstruction

FILE_FORMAT = "array_record"

# Files that a process keeps open besides those of the data.
_OTHER_FILES = 512

_FEATURES = {
    "image": tf.io.FixedLenFeature((), tf.string),
    "label": tf.io.FixedLenFeature((), tf.int64),
    "file_name": tf.io.FixedLenFeature((), tf.string),
}


@dataclasses.dataclass(frozen=True)
class RecordSplit:
    """A split of encoded images of any size.

    Attributes:
        name: of dataset and split, for messages.
        image_size: height and width that the model sees.
        preprocessing: family of `smh_jax.data.preprocessing`.
        shards, records: the files, in order, and the serialized examples in them.
    """

    name: str
    image_size: int
    preprocessing: str
    shards: tuple[FileInstruction, ...]
    records: Sequence[bytes]

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return len(self.records)

    def file(self, row: int) -> str:
        """The file that holds an example."""
        ends = list(itertools.accumulate(shard.take for shard in self.shards))
        return self.shards[bisect.bisect(ends, row)].filename


def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
    """A record's `image`, still encoded, `label` and `file_name`."""
    return tf.io.parse_single_example(record, _FEATURES)


def open_split(
    builder: tfds.core.DatasetBuilder, split: str, image_size: int, preprocessing: str
) -> RecordSplit:
    """Opens a split, in tensorflow-datasets' notation, of a prepared dataset; reads no example.

    Raises:
        ValueError: if the dataset is not there, or not all of it, or in another file format, or
            has no such split.
    """
    info = builder.info
    at = f"data.name={builder.name!r} in {builder.data_path}"
    if not info.splits:
        raise ValueError(
            f"{at} is not prepared; `python -m scripts.prepare_imagenet --help` says how to "
            "prepare it from the official tar files"
        )
    if FILE_FORMAT not in {form.value for form in info.available_file_formats()}:
        raise ValueError(
            f"{at} is prepared as {info.file_format.value}, whose examples cannot be read in any "
            "order; `python -m scripts.prepare_imagenet` prepares it in another data.data_dir, "
            "`tfds convert_format` (which needs apache-beam) converts it with "
            f"--out_file_format={FILE_FORMAT}"
        )
    try:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        source = builder.as_data_source(split, deserialize_method=raw, file_format=FILE_FORMAT)
        shards = base.file_instructions(builder.info, split)
    except (ValueError, KeyError, AssertionError) as error:
        raise ValueError(
            f"data split {split!r} is not a part of {builder.name}, "
            f"whose splits are {', '.join(info.splits)}: {error}"
        ) from error
    _allow_open_files(len(shards))
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        faults = [fault for fault in pool.map(_fault, shards) if fault]
    if faults:
        raise ValueError(
            f"{at} is not whole: {len(faults)} of the {len(shards)} files of split {split!r} are "
            f"missing or damaged, the first is {faults[0]}; copy or prepare it again"
        )
    name = f"{builder.name}'s {split}"
    return RecordSplit(name, image_size, preprocessing, tuple(shards), source)


def _fault(shard: FileInstruction) -> str | None:
    """What is wrong with a file, if anything."""
    path = epath.Path(shard.filename)
    if not path.is_file():
        return f"{path.name} (missing)"
    try:
        reader = array_record_module.ArrayRecordReader(os.fspath(path))
        num_records = reader.num_records()
        reader.close()
    except (RuntimeError, ValueError, OSError) as error:
        return f"{path.name} ({str(error).splitlines()[0]})"
    if num_records != shard.examples_in_shard:
        return f"{path.name} ({num_records} examples of {shard.examples_in_shard})"
    return None


def _allow_open_files(num_files: int) -> None:
    """Raises the process's limit of open files so that each file of a split can stay open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num_files + _OTHER_FILES
    if resource.RLIM_INFINITY in (soft, hard) or soft >= wanted:
        return
    if hard < wanted:
        raise ValueError(
            f"the dataset's {num_files} files need {wanted} open files, but the system allows "
            f"{hard}; raise the limit (`ulimit -Hn`)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
