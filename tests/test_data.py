"""Datasets and batches: every value a function of seed and step."""

import gzip
import hashlib
import itertools
import shutil
import socket
import struct
import time

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image
from tensorflow_datasets.image_classification import mnist

from scripts import prepare_fashion_mnist
from smh_jax import data
from smh_jax.data import catalogue
from smh_jax.data.image_files import Preprocessing

NORMALIZATION = data.Normalization((0.5,), (0.25,))


def numbered(count, size=8):
    """A split whose image i holds i in every pixel and whose label is i."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, size, size, 1)
    )
    return data.Split(images, np.arange(count, dtype=np.int32))


def train(split, steps, first_step=0, **changes):
    options = {"batch_size": 20, "augmentation": "crop_flip", "seed": 0} | changes
    return list(
        data.train_batches(split, NORMALIZATION, first_step=first_step, last_step=steps, **options)
    )


def test_digits_are_the_real_ones(digits_dir):
    info = data.describe("digits", digits_dir)
    train_split = data.load(info, "train", digits_dir)
    test_split = data.load(info, "test", digits_dir)
    assert (train_split.num_examples, test_split.num_examples) == (1437, 360)
    assert info.image_shape == (8, 8, 1)
    assert info.num_classes == 10
    original = sklearn.datasets.load_digits()
    images = np.concatenate([train_split.images, test_split.images])
    labels = np.concatenate([train_split.labels, test_split.labels])
    # The same multiset of (image, label), each in one of the splits.
    found = sorted(
        (*image.ravel().tolist(), label) for image, label in zip(images, labels, strict=True)
    )
    expected = np.round(original.images * (255 / 16)).astype(np.uint8)
    wanted = sorted(
        (*image.ravel().tolist(), label)
        for image, label in zip(expected, original.target, strict=True)
    )
    assert found == wanted
    assert set(np.bincount(test_split.labels)) <= {35, 36, 37}


def test_normalization_constants_are_those_of_the_training_images(digits_dir):
    info = data.describe("digits", digits_dir)
    images = data.load(info, "train", digits_dir).images / 255
    assert images.mean() == pytest.approx(info.normalization.mean[0], abs=1e-3)
    assert images.std() == pytest.approx(info.normalization.stddev[0], abs=1e-3)


def test_each_epoch_sees_every_example_once_in_another_order():
    batches = train(numbered(90), 18, augmentation="none")
    labels = np.concatenate([batch["label"] for batch in batches])
    epochs = labels.reshape(4, 90)
    for epoch in epochs:
        assert sorted(epoch) == list(range(90))
    assert all(np.any(one != other) for one, other in itertools.pairwise(epochs))
    assert np.any(labels != np.concatenate([b["label"] for b in train(numbered(90), 18, seed=1)]))


def test_a_batch_is_normalized_pixels():
    (batch,) = train(numbered(90), 1, augmentation="none")
    expected = (batch["label"] / 255 - 0.5) / 0.25
    np.testing.assert_allclose(batch["image"][:, 3, 5, 0], expected, rtol=1e-5, atol=1e-6)
    assert batch["image"].shape == (20, 8, 8, 1)
    assert batch["image"].dtype == np.float32


def test_a_step_does_not_depend_on_where_the_run_began():
    split = numbered(90)
    whole, rest = train(split, 9), train(split, 9, first_step=4)
    assert len(rest) == 5
    for one, other in zip(whole[4:], rest, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def test_hosts_share_each_batch_without_loss_or_repetition():
    split = numbered(90)
    whole = train(split, 5)
    parts = [train(split, 5, host=host, num_hosts=4) for host in range(4)]
    for step, batch in enumerate(whole):
        for key in ("image", "label"):
            joined = np.concatenate([part[step][key] for part in parts])
            np.testing.assert_array_equal(joined, batch[key])


def test_augmentation_crops_and_flips():
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    split = data.Split(image, np.zeros(1, np.int32))
    normalized = (image[0, :, :, 0] / 255 - 0.5) / 0.25
    padded = np.pad(normalized, 1)
    crops = [padded[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    for augmentation, expected in (
        ("none", [normalized]),
        ("crop", crops),
        ("crop_flip", crops + [crop[:, ::-1] for crop in crops]),
    ):
        batches = train(split, 20, augmentation=augmentation)
        seen = np.zeros(len(expected), int)
        for crop in np.concatenate([batch["image"] for batch in batches])[..., 0]:
            matches = [i for i, e in enumerate(expected) if np.allclose(crop, e, atol=1e-5)]
            assert len(matches) == 1
            seen[matches] += 1
        # 400 draws: each of the 18 comes 22 times on average.
        assert seen.min() > 0.3 * 400 / len(expected)


def test_evaluation_covers_every_example_once():
    split = numbered(90)
    for num_hosts in (1, 2):
        batches = [
            batch
            for host in range(num_hosts)
            for batch in data.eval_batches(
                split, NORMALIZATION, batch_size=40, host=host, num_hosts=num_hosts
            )
        ]
        labels = np.concatenate([batch["label"][batch["mask"] == 1] for batch in batches])
        assert sorted(labels) == list(range(90))
        assert sum(len(batch["mask"]) for batch in batches) == 120
        assert {len(batch["label"]) for batch in batches} == {40 // num_hosts}


def test_images_are_resized(digits_dir):
    info = data.describe("digits", digits_dir, image_size=4)
    small = data.load(info, "test", digits_dir)
    full = data.load(data.describe("digits", digits_dir), "test", digits_dir)
    assert small.images.shape == (360, 4, 4, 1)
    averaged = full.images.reshape(360, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(small.images, averaged, atol=0.51)


def test_an_image_is_cropped_as_a_prediction_crops_it(tmp_path):
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :32] = 255
    pixels[:, 40:50] = 90
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    loaded = Preprocessing((16, 16, 3), (0.0,) * 3, (1.0,) * 3).load(tmp_path / "wide.png")
    resized = catalogue._resized(pixels[np.newaxis], (16, 16, 3))[0]
    np.testing.assert_array_equal(resized, loaded)
    # The white quarter is out of sight, the rest is not.
    assert 0 < resized.max() <= 90
    tall = catalogue._resized(pixels.swapaxes(0, 1)[np.newaxis], (16, 16, 3))[0]
    np.testing.assert_array_equal(tall, resized.swapaxes(0, 1))


def test_files_that_are_not_whole(digits_dir, tmp_path):
    shutil.copytree(digits_dir, tmp_path / "copy")
    info = data.describe("digits", str(tmp_path / "copy"))
    (shard,) = (tmp_path / "copy").rglob("digits-test.tfrecord*")
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"data.name='digits' in .* is not whole \(.*copy it anew"):
        data.load(info, "test", str(tmp_path / "copy"))
    assert data.load(info, "train", str(tmp_path / "copy")).num_examples == 1437
    shard.unlink()
    with pytest.raises(ValueError, match="is not whole"):
        data.load(info, "test", str(tmp_path / "copy"))


def test_catalogue_names():
    assert data.describe("cifar10").image_shape == (32, 32, 3)
    assert data.describe("cifar100").num_classes == 100
    assert data.describe("fashion_mnist").class_names[8] == "Bag"
    imagenet = data.describe("imagenet2012")
    assert (imagenet.image_shape, imagenet.num_classes) == ((224, 224, 3), 1000)
    assert imagenet.normalization.mean == (0.485, 0.456, 0.406)
    imagenet = data.describe("imagenet2012", image_size=96, preprocessing="inception")
    assert imagenet.image_shape == (96, 96, 3)
    assert imagenet.normalization.stddev == (0.5, 0.5, 0.5)


def test_bad_input(digits_dir, tmp_path):
    with pytest.raises(ValueError, match="did you mean cifar10"):
        data.describe("cifar")
    with pytest.raises(ValueError, match=r"preprocessing='resnet' is for .*='cifar10' takes"):
        data.describe("cifar10", preprocessing="resnet")
    info = data.describe("digits", digits_dir)
    with pytest.raises(ValueError, match="data split 'validation' is not a part of digits"):
        data.load(info, "validation", digits_dir)
    with pytest.raises(ValueError, match=r"'test\[:0\]' .* corresponds to no data"):
        data.load(info, "test[:0]", digits_dir)


NUM_FILE_EXAMPLES = {"train": 300, "t10k": 260}


@pytest.fixture
def four_files(tmp_path, monkeypatch):
    """Files of the format of Fashion-MNIST's, with other and fewer images."""
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", NUM_FILE_EXAMPLES["train"])
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", NUM_FILE_EXAMPLES["t10k"])
    folder = tmp_path / "source"
    folder.mkdir()
    for name, count in NUM_FILE_EXAMPLES.items():
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 0, 0] = np.arange(count) % 251
        header = struct.pack(">4i", 2051, count, 28, 28)
        path = folder / f"{name}-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(header + images.tobytes(), 1))
        labels = (np.arange(count) % 10).astype(np.uint8)
        path = folder / f"{name}-labels-idx1-ubyte.gz"
        path.write_bytes(gzip.compress(struct.pack(">2i", 2049, count) + labels.tobytes(), 1))
    return folder


def test_prepare_fashion_mnist(four_files, tmp_path, monkeypatch):
    digests = {
        path.name: hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
        for path in four_files.iterdir()
    }
    assert set(digests) == set(prepare_fashion_mnist.FILES)
    with pytest.raises(ValueError, match="is not the original"):
        prepare_fashion_mnist.prepare(four_files, str(tmp_path))
    monkeypatch.setattr(prepare_fashion_mnist, "FILES", digests)
    prepare_fashion_mnist.prepare(four_files, str(tmp_path))
    test = data.load(data.describe("fashion_mnist", str(tmp_path)), "test", str(tmp_path))
    assert test.num_examples == NUM_FILE_EXAMPLES["t10k"]
    # tensorflow-datasets shuffles when it prepares; images and labels stay together.
    pairs = zip(test.images[:, 0, 0, 0].tolist(), test.labels.tolist(), strict=True)
    assert sorted(pairs) == sorted((i % 251, i % 10) for i in range(NUM_FILE_EXAMPLES["t10k"]))


def test_prepare_fashion_mnist_names_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="has no file train-images"):
        prepare_fashion_mnist.prepare(tmp_path, str(tmp_path))


def test_a_download_without_a_network_fails_at_once(tmp_path, monkeypatch):
    def unknown_host(*_, **__):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown_host)
    info = data.describe("cifar10", str(tmp_path))
    begin = time.monotonic()
    with pytest.raises(ValueError, match=r"'cifar10' is not prepared .* internet, and copy that"):
        data.load(info, "test", str(tmp_path))
    assert time.monotonic() - begin < 10
    with pytest.raises(ValueError, match=r"data_dir=.*nowhere is not a folder; make it to prep"):
        data.load(info, "test", str(tmp_path / "nowhere"))
