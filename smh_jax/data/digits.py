"""scikit-learn's handwritten digits as a tensorflow-datasets builder: real images, no download."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_TEST_EXAMPLES = 360


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 images of 8 x 8 pixels in ten classes (the test set of UCI's optdigits).

    The split is a fixed stratified one: 1,437 images to train on, 360 to test on.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Stratified split, pixel values scaled from 0..16 to 0..255."}  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 8 x 8 pixels, from scikit-learn's package.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        # Needed only once, when the dataset is prepared.
        import sklearn.datasets
        import sklearn.model_selection

        digits = sklearn.datasets.load_digits()
        rows = np.arange(len(digits.target))
        train, test = sklearn.model_selection.train_test_split(
            rows, test_size=_TEST_EXAMPLES, stratify=digits.target, random_state=0
        )
        splits = {"train": train, "test": test}
        return {name: self._generate_examples(digits, rows) for name, rows in splits.items()}

    def _generate_examples(self, digits: Any, rows: np.ndarray) -> Iterator[tuple[int, Any]]:
        for row in sorted(rows.tolist()):
            image = np.round(digits.images[row] * (255 / 16)).astype(np.uint8)
            yield row, {"image": image[..., np.newaxis], "label": int(digits.target[row])}
