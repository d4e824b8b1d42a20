"""tensorflow-datasets into batches: names, splits in memory or files, order, preprocessing."""

from etils import epy

# Read when first used: loading a shipped model imports `smh_jax.data.crops`, and should not wait
# for TensorFlow.
with epy.lazy_api_imports(globals()):
    from smh_jax.data import text
    from smh_jax.data.batches import Batch, eval_batches, train_batches
    from smh_jax.data.catalogue import (
        DatasetInfo,
        Split,
        check_augmentation,
        describe,
        load,
        names,
    )
    from smh_jax.data.normalization import Normalization
    from smh_jax.data.preprocessing import Augmentation
    from smh_jax.data.records import RecordSplit

__all__ = ["Augmentation", "Batch", "DatasetInfo", "Normalization", "RecordSplit", "Split"]
__all__ += [
    "check_augmentation",
    "describe",
    "eval_batches",
    "load",
    "names",
    "text",
    "train_batches",
]
