"""tensorflow-datasets into batches: names, splits in memory, order, augmentation."""

from smh_jax.data.catalogue import DatasetInfo, Normalization, Split, describe, load, names
from smh_jax.data.pipeline import Batch, eval_batches, train_batches

__all__ = [
    "Batch",
    "DatasetInfo",
    "Normalization",
    "Split",
    "describe",
    "eval_batches",
    "load",
    "names",
    "train_batches",
]
