"""Crops, resizing and colors of each family, against NumPy, Pillow and their definitions."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks import photos
from smh_jax.data import Augmentation, Normalization, preprocessing

ZERO_ONE = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
PLAIN = Augmentation()


def encoded(width, height, gray=False):
    image = photos.photo(width + height, width, height)
    return photos.jpeg(image.convert("L") if gray else image)


def pixels(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


@functools.cache
def training_function(family, augmentation):
    """Traced once for all tests."""

    @tf.function(autograph=False)
    def image(jpeg, seed):
        return preprocessing.training_image(
            jpeg,
            seed,
            family=family,
            image_size=32,
            normalization=ZERO_ONE,
            augmentation=augmentation,
        )

    return image


def training(jpeg, seeds, family, augmentation=PLAIN):
    image, jpeg = training_function(family, augmentation), tf.constant(jpeg)
    return np.stack([image(jpeg, tf.constant([7, s], tf.int64)).numpy() for s in range(seeds)])


def resized(window, size, method):
    """The definition on a window's pixels [height, width, 3], on 0..1."""
    return tf.image.resize(window, (size, size), method=method).numpy() / 255.0


def assert_same_image(found, expected):
    """Equal inside; at a crop's border the decoder cannot see the color that lies beyond."""
    found = np.asarray(found)
    np.testing.assert_allclose(found[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-6)
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_normalize_in_float64():
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    normalization = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = (images / 255.0 - normalization.mean) / normalization.stddev
    found = preprocessing.normalize(images, normalization)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    one = preprocessing.normalize(tf.constant(images[0]), normalization)
    np.testing.assert_array_equal(one, found[0])


@pytest.mark.parametrize(
    ("width", "height", "gray"), [(200, 150, False), (150, 201, True), (64, 64, False)]
)
def test_evaluation_crops(width, height, gray):
    jpeg = encoded(width, height, gray)
    whole = pixels(jpeg)
    # resnet: 64 / (64 + 32) of the shorter side.
    side = int(min(width, height) * 64 / 96)
    square = min(width, height)
    windows = {
        "resnet": (side, side, "bicubic"),
        "inception": (int(0.875 * height), int(0.875 * width), "bilinear"),
        "plain": (square, square, "area"),
    }
    for family, (rows, columns, method) in windows.items():
        top, left = (height - rows + 1) // 2, (width - columns + 1) // 2
        window = whole[top : top + rows, left : left + columns]
        found = preprocessing.evaluation_image(
            jpeg, family=family, image_size=64, normalization=ZERO_ONE
        )
        assert_same_image(found, resized(window, 64, method))


def test_resizing_does_not_shift():
    # A ramp stays a ramp: what a resize that is off by half a pixel would not give.
    ramp = np.broadcast_to(np.linspace(40, 200, 160)[None, :, None], (160, 160, 3))
    jpeg = photos.jpeg(Image.fromarray(np.round(ramp).astype(np.uint8)), quality=100)
    for family in ("resnet", "inception", "plain"):
        found = preprocessing.evaluation_image(
            jpeg, family=family, image_size=64, normalization=ZERO_ONE
        ).numpy()
        np.testing.assert_allclose(found + found[:, ::-1], 240 / 255, atol=0.01)


@pytest.mark.parametrize(
    ("family", "area", "aspect"),
    [("resnet", (0.1, 1.0), (3 / 4, 4 / 3)), ("inception", (0.1, 1.0), (0.75, 1.33))],
)
def test_random_windows_keep_their_bounds(family, area, aspect):
    shape = np.array([300, 400], np.int32)
    otherwise = tf.constant([-1, -1, -1, -1])
    draw = tf.function(
        lambda seed: preprocessing._random_window(tf.constant(shape), seed, family, otherwise)
    )
    windows = np.stack([draw(tf.constant([3, s], tf.int64)).numpy() for s in range(400)])
    windows = windows[windows[:, 0] >= 0]
    assert len(windows) > 390
    starts, sizes = windows[:, :2], windows[:, 2:]
    assert np.all(starts >= 0)
    assert np.all(starts + sizes <= shape)
    areas, aspects = sizes.prod(1) / shape.prod(), sizes[:, 1] / sizes[:, 0]
    # Sides are whole pixels.
    assert area[0] - 0.01 < areas.min() < 0.2
    assert 0.8 < areas.max() <= area[1]
    assert aspect[0] - 0.02 < aspects.min() < 0.8
    assert 1.25 < aspects.max() < aspect[1] + 0.02
    again = draw(tf.constant([3, 0], tf.int64)).numpy()
    np.testing.assert_array_equal(again, draw(tf.constant([3, 0], tf.int64)))
    assert len(np.unique(windows, axis=0)) > 380


def test_a_crop_that_is_not_found_is_the_evaluation_crop():
    # No crop of an image as narrow as this has a permitted aspect and a tenth of its area.
    jpeg = encoded(400, 20)
    found = training(jpeg, 4, "resnet")
    expected = preprocessing.evaluation_image(
        jpeg, family="resnet", image_size=32, normalization=ZERO_ONE
    ).numpy()
    for image in found:
        flipped = np.array_equal(image, expected[:, ::-1])
        assert flipped or np.array_equal(image, expected)


def test_training_crops_are_parts_of_the_image_flipped_half_of_the_time():
    # Brightness tells the column, color the row.
    ramp = np.zeros((200, 200, 3))
    ramp[..., 0] = np.linspace(20, 230, 200)[None, :]
    ramp[..., 2] = np.linspace(20, 230, 200)[:, None]
    jpeg = photos.jpeg(Image.fromarray(ramp.astype(np.uint8)), quality=100)
    images = training(jpeg, 60, "resnet")
    across = images[:, :, -1, 0].mean(1) - images[:, :, 0, 0].mean(1)
    down = images[:, -1, :, 2].mean(1) - images[:, 0, :, 2].mean(1)
    assert 18 <= np.sum(across < 0) <= 42
    assert np.all(down > 0.2)
    # The share of the ramp that is seen is the crop's share of the image.
    shares = np.abs(across) * down * 255**2 / 210**2
    assert 0.08 < shares.min() < 0.35
    assert 0.6 < shares.max() < 1.05
    np.testing.assert_array_equal(images[:2], training(jpeg, 2, "resnet"))


def test_inception_draws_brightness_and_saturation():
    gray, red = (
        photos.jpeg(Image.new("RGB", (64, 64), color), quality=100)
        for color in ((128, 128, 128), (150, 100, 100))
    )
    brightness = training(gray, 100, "inception").mean((1, 2, 3)) - 128 / 255
    assert -32 / 255 - 0.01 < brightness.min() < -0.1
    assert 0.1 < brightness.max() < 32 / 255 + 0.01
    assert np.std(training(gray, 5, "resnet")) < 1e-3
    colors = training(red, 100, "inception").mean((1, 2))
    saturation = (colors.max(1) - colors.min(1)) / colors.max(1) / (1 / 3)
    assert 0.4 < saturation.min() < 0.65
    assert 1.35 < saturation.max() < 1.8
    white = photos.jpeg(Image.new("RGB", (64, 64), (250, 250, 250)))
    assert training(white, 20, "inception").max() == pytest.approx(1.0, abs=1e-6)


def test_plain_training_images():
    jpeg = encoded(80, 64)
    window = pixels(jpeg)[:, 8:72]
    small = resized(window, 32, "area")
    for image in training(jpeg, 2, "plain"):
        assert_same_image(image, small)
    padded = np.pad(small, ((4, 4), (4, 4), (0, 0)))
    for name, flips in (("crop", 1), ("crop_flip", 2)):
        crops = [
            crop for y in range(9) for x in range(9) for crop in (padded[y : y + 32, x : x + 32],)
        ]
        crops += [
            np.pad(small[:, ::-1], ((4, 4), (4, 4), (0, 0)))[y : y + 32, x : x + 32]
            for y in range(9)
            for x in range(9)
            if flips == 2
        ]
        found = training(jpeg, 60, "plain", Augmentation(name))
        at = [np.argmin([np.abs(image - crop).max() for crop in crops]) for image in found]
        for image, index in zip(found, at, strict=True):
            np.testing.assert_allclose(image, crops[index], atol=0.02)
        assert len(set(at)) > 25
        assert any(index >= 81 for index in at) == (flips == 2)


@pytest.mark.parametrize(
    ("family", "augmentation"), [("resnet", "autoaugment_v0"), ("inception", "randaugment")]
)
def test_policies_change_the_image_and_follow_the_seed(family, augmentation):
    jpeg = encoded(80, 64)
    images = training(jpeg, 12, family, Augmentation(augmentation, layers=1, magnitude=4.0))
    plain = training(jpeg, 12, family)
    assert images.min() >= 0.0
    assert images.max() <= 1.0
    # Crops, flips and colors are those of the same seed; the policy comes in between.
    changed = [not np.allclose(a, np.clip(b, 0, 1), atol=1 / 200) for a, b in
               zip(images, plain, strict=True)]  # fmt: skip
    assert sum(changed) >= 6
    again = training(jpeg, 12, family, Augmentation(augmentation, layers=1, magnitude=4.0))
    np.testing.assert_array_equal(images, again)
