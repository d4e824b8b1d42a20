"""Datasets that are folders of images, and those of the catalogue that are not known by name."""

import json

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from smh_jax import data
from smh_jax.data import folder, normalization


def write(path, value, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new(mode, size, value if mode != "RGB" else (value, 0, 255 - value)).save(path)


@pytest.fixture
def flowers(tmp_path):
    root = tmp_path / "flowers"
    for index in range(20):
        write(root / "roses" / f"{index}.png", 200)
        write(root / "tulips" / f"{index}.jpg", 10, size=(16, 8))
    return root


def test_a_folder_becomes_a_dataset(flowers, tmp_path):
    name, data_dir = f"folder:{flowers}", str(tmp_path)
    info = data.describe(name, data_dir, image_size=4)
    assert info.class_names == ("roses", "tulips")
    assert info.image_shape == (4, 4, 3)
    train, test = (data.load(info, split, data_dir) for split in ("train", "test"))
    assert train.num_examples + test.num_examples == 40
    assert 2 <= test.num_examples <= 16
    assert set(train.labels) == set(test.labels) == {0, 1}
    np.testing.assert_array_equal(
        train.images[:, 0, 0, 0] > 100, train.labels == 0, err_msg="labels go with their images"
    )
    mean = np.mean(train.images / 255, (0, 1, 2))
    np.testing.assert_allclose(info.normalization.mean, mean, atol=1e-4)
    half = data.load(info, "train[:50%]", data_dir)
    np.testing.assert_array_equal(half.images, train.images[: half.num_examples])


def test_normalization_is_measured_once(flowers, tmp_path, monkeypatch):
    name, data_dir = f"folder:{flowers}", str(tmp_path)
    first = data.describe(name, data_dir, image_size=4).normalization
    (path,) = (tmp_path / "smh_jax_normalization").iterdir()
    assert json.loads(path.read_text())["mean"] == list(first.mean)
    with monkeypatch.context() as patched:
        patched.setattr(normalization, "measure", None)
        assert data.describe(name, data_dir, image_size=4).normalization == first
    write(flowers / "roses" / "more.png", 255)
    again = data.describe(name, data_dir, image_size=4).normalization
    assert len(list((tmp_path / "smh_jax_normalization").iterdir())) == 2
    assert again != first


def test_splits_of_ones_own(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for label in ("a", "b"):
            for index in range(count):
                write(tmp_path / split / label / f"{index}.png", 9, mode="L")
    info = data.describe(f"folder:{tmp_path}", str(tmp_path))
    assert info.image_shape == (8, 8, 1)
    assert data.load(info, "train", None).num_examples == 6
    assert data.load(info, "test", None).num_examples == 4


def test_channels_that_never_change_are_divided_by_one():
    images = np.full((5, 2, 2, 2), 51, np.uint8)
    images[::2, ..., 1] = 0
    measured = normalization.measure(images)
    assert measured.mean == (0.2, 0.08)
    assert measured.stddev[0] == 1.0
    assert measured.stddev[1] == pytest.approx(0.2 * np.sqrt(0.24), abs=1e-4)


def test_folders_that_are_no_datasets(flowers, tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        folder.open_folder("folder:nowhere")
    with pytest.raises(ValueError, match="it has 0 classes"):
        folder.open_folder(f"folder:{flowers / 'roses'}")
    with pytest.raises(ValueError, match="are of 2 sizes; give one"):
        data.describe(f"folder:{flowers}", str(tmp_path))
    images = folder.open_folder(f"folder:{flowers}")
    with pytest.raises(ValueError, match=r"split 'val' is not a part of folder:.*train \("):
        images.select("val")
    with pytest.raises(ValueError, match="'train\\[:0\\]' is not a part"):
        images.select("train[:0]")
    (flowers / "roses" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"0.png is not an image that can be read"):
        data.describe(f"folder:{flowers}", str(tmp_path), image_size=4)


class SmhJaxTestBuilder(tfds.core.GeneratorBasedBuilder):
    """Red squares of two sizes."""

    VERSION = tfds.core.Version("1.0.0")
    LABEL = "label"

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            self.LABEL: tfds.features.ClassLabel(names=["small", "large"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(6):
            image = np.zeros((4 + number, 8, 3), np.uint8)
            image[..., 0] = 51 * number
            yield number, {"image": image, self.LABEL: number // 3}


class SmhJaxTestTags(SmhJaxTestBuilder):
    """The same without labels."""

    LABEL = "tag"


def test_other_names_of_the_catalogue(tmp_path):
    with pytest.raises(ValueError, match="is not a dataset that classifies images"):
        data.describe("smh_jax_test_tags", str(tmp_path))
    with pytest.raises(ValueError, match=r"images of data.name='smh_jax_test_builder' differ"):
        data.describe("smh_jax_test_builder", str(tmp_path))
    info = data.describe("smh_jax_test_builder", str(tmp_path), image_size=4)
    assert info.normalization.mean == pytest.approx((0.5, 0.0, 0.0), abs=1e-4)
    split = data.load(info, "train", str(tmp_path))
    assert split.images.shape == (6, 4, 4, 3)
    np.testing.assert_array_equal(split.images[:, 0, 0, 0] // 153, split.labels)


def test_missing_data_name_the_script(tmp_path):
    info = data.describe("fashion_mnist", str(tmp_path))
    with pytest.raises(ValueError, match=r"prepare_fashion_mnist\.py --source=DIR"):
        data.load(info, "train", str(tmp_path))
