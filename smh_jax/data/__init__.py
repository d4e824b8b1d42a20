"""tensorflow-datasets into batches: names, splits in memory or files, order, preprocessing."""

from smh_jax.data.catalogue import (
    DatasetInfo,
    Normalization,
    Split,
    check_augmentation,
    describe,
    load,
    names,
)
from smh_jax.data.pipeline import Batch, eval_batches, train_batches
from smh_jax.data.preprocessing import Augmentation
from smh_jax.data.records import RecordSplit

__all__ = [
    "Augmentation",
    "Batch",
    "DatasetInfo",
    "Normalization",
    "RecordSplit",
    "Split",
    "check_augmentation",
    "describe",
    "eval_batches",
    "load",
    "names",
    "train_batches",
]
