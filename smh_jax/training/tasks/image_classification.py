"""Classification of images."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smh_jax import data
from smh_jax.config import DataConfig
from smh_jax.data.image_files import Preprocessing
from smh_jax.training import losses
from smh_jax.training.tasks.base import Batch, Task


class ImageClassification(Task):
    """Batches have `image` [batch, height, width, channels] and `label` [batch]."""

    name = "image_classification"
    takes = "images"
    input = "image"

    def describe(self, config: DataConfig) -> "data.DatasetInfo":
        dataset = data.describe(
            config.name,
            config.data_dir,
            config.image_size,
            config.preprocessing,
            config.transform,
        )
        data.check_augmentation(dataset, config.augmentation)
        return dataset

    def load(self, dataset: "data.DatasetInfo", split: str, config: DataConfig) -> Any:
        return data.load(dataset, split, config.data_dir)

    def train_batches(
        self, split: Any, dataset: "data.DatasetInfo", config: DataConfig, **which: int
    ) -> Iterator[Batch]:
        return data.train_batches(
            split,
            dataset.normalization,
            batch_size=config.batch_size,
            augmentation=data.Augmentation(
                config.augmentation, config.randaugment_layers, config.randaugment_magnitude
            ),
            dtype=config.image_dtype,
            skip_corrupt=config.skip_corrupt,
            **which,
        )

    def eval_batches(
        self, split: Any, dataset: "data.DatasetInfo", config: DataConfig, **which: int
    ) -> Iterator[Batch]:
        return data.eval_batches(
            split,
            dataset.normalization,
            dtype=config.image_dtype,
            skip_corrupt=config.skip_corrupt,
            **which,
        )

    def abstract_batch(self, dataset: "data.DatasetInfo", size: int, dtype: str) -> Batch:
        return {
            "image": jax.ShapeDtypeStruct((size, *dataset.image_shape), dtype),
            "label": jax.ShapeDtypeStruct((size,), jnp.int32),
        }

    def measure(
        self, logits: jax.Array, batch: Batch, label_smoothing: float
    ) -> dict[str, jax.Array]:
        return {
            "loss": losses.cross_entropy(logits, batch["label"], label_smoothing),
            "correct": jnp.argmax(logits, -1) == batch["label"],
        }

    def headline(self, result: Mapping[str, Any]) -> str:
        return f"test accuracy {result['test_accuracy']:.2%} of {result['test_examples']:,} images"

    def preprocessing(self, dataset: "data.DatasetInfo") -> Preprocessing:
        return Preprocessing(
            dataset.image_shape,
            **dataclasses.asdict(dataset.normalization),
            crop=dataset.preprocessing,
        )

    def read_preprocessing(self, fields: Mapping[str, Any]) -> Preprocessing:
        return Preprocessing(**fields)

    def predict(
        self, artifact: Any, arguments: Sequence[str], options: Mapping[str, Any]
    ) -> Iterator[str]:
        """The likeliest classes of image files, and their probabilities."""
        # All are read before any is classified.
        images = [artifact.preprocessing.load(path) for path in arguments]
        for path, image in zip(arguments, images, strict=True):
            probabilities = artifact.predict(image[np.newaxis])[0]
            names = artifact.class_names or tuple(map(str, range(len(probabilities))))
            best = np.argsort(-probabilities, kind="stable")[: options["top"]]
            shares = (f"{names[index]} {float(probabilities[index]):.1%}" for index in best)
            yield f"{path}: " + ", ".join(shares)
