"""From an encoded image to what a model sees: one family of crops and colors for each recipe.

'resnet' is what ResNet and EfficientNet were trained with (area 8 to 100%, bicubic; EfficientNet's
published code), 'inception' what MobileNet was (area 5 to 100%, bilinear, brightness and
saturation; the TF-slim library), 'plain' takes the centered square whole.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from smh_jax.data import crops, policies
from smh_jax.data.catalogue import Normalization


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training images are changed beyond their family's crops and colors; see `DataConfig`."""

    name: str = "none"
    layers: int = 2
    magnitude: float = 9.0


# Of a random crop: its share of the image, its width over its height, and the tries to find one.
_RANDOM_CROPS = {
    "resnet": {"area_range": (0.08, 1.0), "aspect_ratio_range": (3 / 4, 4 / 3), "max_attempts": 10},
    "inception": {
        "area_range": (0.05, 1.0), "aspect_ratio_range": (0.75, 1.33), "max_attempts": 100
    },
}  # fmt: skip
_RESIZING = {"plain": "area", "resnet": "bicubic", "inception": "bilinear"}

# Of the image's area, a random crop covers at least this.
_MIN_COVERED = 0.1
_BRIGHTNESS = (-32 / 255, 32 / 255)
_SATURATION = (0.5, 1.5)


def normalize(images: tf.Tensor | np.ndarray, normalization: Normalization) -> tf.Tensor:
    """Images [..., height, width, channels] on 0..255, normalized, float32."""
    width = images.shape[-2]
    mean = np.tile(np.asarray(normalization.mean, np.float32), width)
    stddev = np.tile(np.asarray(normalization.stddev, np.float32), width)
    # By whole rows: arithmetic that repeats three numbers along the last axis is slow.
    rows = tf.reshape(tf.cast(images, tf.float32), (-1, len(mean)))
    rows = rows * (1.0 / (255.0 * stddev)) - mean / stddev
    return tf.ensure_shape(tf.reshape(rows, tf.shape(images)), images.shape)


def random_crop(images: tf.Tensor, offsets: tf.Tensor, padding: int) -> tf.Tensor:
    """Crops of the original size from images padded on each side with their mean (which is 0).

    Images are [batch, height, width, channels], offsets [batch, 2], uniform on [0, 1).
    """
    _, height, width, _ = images.shape
    padded = tf.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    starts = tf.cast(offsets * (2 * padding + 1), tf.int32)
    rows = starts[:, :1] + tf.range(height)
    columns = starts[:, 1:] + tf.range(width)
    padded = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(padded, columns, axis=2, batch_dims=1)


def training_image(
    jpeg: tf.Tensor,
    seed: tf.Tensor,
    family: str,
    image_size: int,
    normalization: Normalization,
    augmentation: Augmentation,
) -> tf.Tensor:
    """A training example's image [image_size, image_size, 3], float32.

    Args:
        jpeg: the encoded image, of any size, gray or colored.
        seed: [2], int64; all that is random follows from it.
        family, image_size: 'plain', 'resnet' or 'inception'; height and width in pixels.
        normalization, augmentation: of the image.
    """
    layers = augmentation.layers if augmentation.name == "randaugment" else 2
    window_seed, draws_seed = seed * [1, 2], seed * [1, 2] + [0, 1]
    draws = tf.random.stateless_uniform((6 + layers * policies.DRAWS,), seed=draws_seed)
    flip, offset_y, offset_x, *colors = tf.unstack(draws[:6])

    shape = tf.io.extract_jpeg_shape(jpeg)[:2]
    window = _evaluation_window(shape, family, image_size)
    if family in _RANDOM_CROPS:
        window = _random_window(shape, window_seed, family, otherwise=window)
    image = _decode(jpeg, window, family, image_size)
    if family in _RANDOM_CROPS or augmentation.name == "crop_flip":
        image = tf.cond(flip < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
    if augmentation.name in ("autoaugment_v0", "randaugment"):
        image = tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)
        policy_draws = tf.reshape(draws[6:], (layers, policies.DRAWS))
        if augmentation.name == "autoaugment_v0":
            image = policies.autoaugment_v0(image, policy_draws)
        else:
            image = policies.randaugment(image, policy_draws, augmentation.magnitude)
    if family == "inception":
        image = _distort_colors(tf.cast(image, tf.float32), *colors)
    image = normalize(image, normalization)
    if augmentation.name in ("crop", "crop_flip"):
        offsets = tf.stack([[offset_y, offset_x]])
        image = random_crop(image[tf.newaxis], offsets, image_size // 8)[0]
    return image


def evaluation_image(
    jpeg: tf.Tensor, family: str, image_size: int, normalization: Normalization
) -> tf.Tensor:
    """An evaluation example's image; see `training_image`."""
    shape = tf.io.extract_jpeg_shape(jpeg)[:2]
    image = _decode(jpeg, _evaluation_window(shape, family, image_size), family, image_size)
    return normalize(image, normalization)


def _random_window(
    shape: tf.Tensor, seed: tf.Tensor, family: str, otherwise: tf.Tensor
) -> tf.Tensor:
    """A random crop's (top, left, height, width) in pixels; `otherwise` where no try fits."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape, [3]], 0),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=_MIN_COVERED,
        **_RANDOM_CROPS[family],
    )
    # The whole image comes back where no attempt succeeded.
    has_succeeded = tf.reduce_any(size[:2] != shape)
    return tf.where(has_succeeded, tf.concat([begin[:2], size[:2]], 0), otherwise)


def _evaluation_window(shape: tf.Tensor, family: str, image_size: int) -> tf.Tensor:
    """The centered crop's (top, left, height, width) in pixels."""
    size = tf.cast(shape, tf.float32) * crops.evaluation_share(family, image_size)
    # Inception's crop is not a square: it distorts the aspect, as in training.
    if family != "inception":
        size = tf.repeat(tf.reduce_min(size), 2)
    size = tf.maximum(tf.cast(size, tf.int32), 1)
    return tf.concat([(shape - size + 1) // 2, size], 0)


def _decode(jpeg: tf.Tensor, window: tf.Tensor, family: str, image_size: int) -> tf.Tensor:
    """The window's pixels, and no others, as float32 [image_size, image_size, 3] on 0..255."""
    # The accurate transform gives the pixels that other libraries see, and costs no more.
    image = tf.image.decode_and_crop_jpeg(jpeg, window, channels=3, dct_method="INTEGER_ACCURATE")
    image = tf.image.resize(image, (image_size, image_size), method=_RESIZING[family])
    return tf.ensure_shape(image, (image_size, image_size, 3))


def _distort_colors(
    image: tf.Tensor, brightness: tf.Tensor, saturation: tf.Tensor, order: tf.Tensor
) -> tf.Tensor:
    """Brightness and saturation, one after the other, from draws on [0, 1); values on 0..255."""

    added = _BRIGHTNESS[0] + (_BRIGHTNESS[1] - _BRIGHTNESS[0]) * brightness
    factor = _SATURATION[0] + (_SATURATION[1] - _SATURATION[0]) * saturation
    image = image / 255.0
    image = tf.cond(
        order < 0.5,
        lambda: tf.image.adjust_saturation(image + added, factor),
        lambda: tf.image.adjust_saturation(image, factor) + added,
    )
    return 255.0 * tf.clip_by_value(image, 0.0, 1.0)
