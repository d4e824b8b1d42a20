"""The image operations of AutoAugment, equal to Pillow's, on uint8 images [height, width, 3].

Learned augmentation policies were searched with Pillow's operations (Cubuk et al. 2019, section 4).
Each operation here is the TensorFlow form of the one that its docstring names.
"""

import numpy as np
import tensorflow as tf

# Pixels that a geometric operation or a cutout leaves empty are gray.
FILL = 128


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """`ImageOps.autocontrast`: stretches each channel to the range 0..255."""
    low = tf.cast(tf.reduce_min(image, axis=(0, 1)), tf.float64)[:, tf.newaxis]
    high = tf.cast(tf.reduce_max(image, axis=(0, 1)), tf.float64)[:, tf.newaxis]
    values = tf.range(256, dtype=tf.float64)[tf.newaxis]
    scale = 255.0 / tf.maximum(high - low, 1.0)
    stretched = tf.clip_by_value(values * scale - low * scale, 0.0, 255.0)
    return _look_up(tf.where(high > low, stretched, values), image)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """`ImageOps.equalize`: makes the histogram of each channel as flat as it gets."""
    counts = tf.math.bincount(_coded(image), minlength=768, maxlength=768)
    counts = tf.reshape(counts, (3, 256))
    below = tf.cumsum(counts, axis=1, exclusive=True)
    # The step leaves out the pixels of the brightest value.
    brightest = tf.cast(tf.reduce_max(image, axis=(0, 1)), tf.int32)
    step = tf.gather(below, brightest, axis=1, batch_dims=1)[:, tf.newaxis] // 255
    table = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
    return _look_up(tf.where(step > 0, table, tf.range(256)[tf.newaxis]), image)


def invert(image: tf.Tensor) -> tf.Tensor:
    """`ImageOps.invert`."""
    return 255 - image


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """`ImageOps.posterize`: keeps the upper bits, 1 to 8, of each value."""
    step = tf.bitwise.left_shift(1, 8 - bits)
    return tf.cast(tf.cast(image, tf.int32) // step * step, tf.uint8)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """`ImageOps.solarize`: inverts the values from the threshold, 0 to 256, on."""
    return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def solarize_add(image: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """Adds to the values below 128, up to 255; Pillow has it as a `point` table only."""
    values = tf.cast(image, tf.int32)
    added = tf.clip_by_value(values + addition, 0, 255)
    return tf.cast(tf.where(values < 128, added, values), tf.uint8)


def color(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`ImageEnhance.Color`: 0 is gray, 1 the image."""
    return _blend(_grayscale(image), image, factor)


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`ImageEnhance.Contrast`: 0 is the mean gray everywhere, 1 the image."""
    mean = tf.reduce_mean(tf.cast(_grayscale(image), tf.float64))
    return _blend(tf.cast(mean + 0.5, tf.int32), image, factor)


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`ImageEnhance.Brightness`: 0 is black, 1 the image."""
    return _blend(tf.constant(0), image, factor)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`ImageEnhance.Sharpness`: 0 is the image smoothed but at its border, 1 the image."""
    values = tf.cast(image, tf.float32)
    box = sum(
        values[y : y - 2 or None, x : x - 2 or None] for y in range(3) for x in range(3)
    )  # Each pixel and its eight neighbors; the pixel itself counts five times.
    smooth = tf.floor((box + 4.0 * values[1:-1, 1:-1]) / 13.0 + 0.5)
    inside = tf.pad(tf.ones_like(smooth, tf.bool), ((1, 1), (1, 1), (0, 0)))
    smooth = tf.where(inside, tf.pad(smooth, ((1, 1), (1, 1), (0, 0))), values)
    return _blend(tf.cast(smooth, tf.int32), image, factor)


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """`Image.rotate`, counterclockwise about the center."""
    angle = -degrees * (np.pi / 180.0)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32) / 2.0)
    return _affine(
        image,
        (cosine, sine, width - cosine * width - sine * height),
        (-sine, cosine, height + sine * width - cosine * height),
    )


def shear_x(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """`Image.transform`: the pixel at (x, y) comes from (x + level y, y)."""
    return _affine(image, (1.0, level, 0.0), (0.0, 1.0, 0.0))


def shear_y(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """`Image.transform`: the pixel at (x, y) comes from (x, y + level x)."""
    return _affine(image, (1.0, 0.0, 0.0), (level, 1.0, 0.0))


def translate_x(image: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """`Image.transform`: the pixel at (x, y) comes from (x + pixels, y)."""
    return _affine(image, (1.0, 0.0, pixels), (0.0, 1.0, 0.0))


def translate_y(image: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """`Image.transform`: the pixel at (x, y) comes from (x, y + pixels)."""
    return _affine(image, (1.0, 0.0, 0.0), (0.0, 1.0, pixels))


def cutout(image: tf.Tensor, half_side: tf.Tensor, center: tf.Tensor) -> tf.Tensor:
    """`Image.paste` of one color (DeVries and Taylor 2017): fills a square about (y, x) in pixels.

    The square, of which half a side is given in pixels, is cut off at the border.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    y, x = tf.range(height)[:, tf.newaxis], tf.range(width)[tf.newaxis]
    rows = (y >= center[0] - half_side) & (y < center[0] + half_side)
    columns = (x >= center[1] - half_side) & (x < center[1] + half_side)
    return tf.where((rows & columns)[..., tf.newaxis], tf.constant(FILL, tf.uint8), image)


def _coded(image: tf.Tensor) -> tf.Tensor:
    """Values of the three channels in ranges of their own: 0..255, 256..511, 512..767."""
    return tf.cast(image, tf.int32) + tf.constant([0, 256, 512])


def _look_up(tables: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Replaces each value by that of its channel's table; the tables are [3, 256]."""
    return tf.gather(tf.reshape(tf.cast(tables, tf.uint8), (768,)), _coded(image))


def _grayscale(image: tf.Tensor) -> tf.Tensor:
    """`Image.convert("L")`, int32 [height, width, 1], in Pillow's fixed-point form of ITU-R 601."""
    red, green, blue = tf.split(tf.cast(image, tf.int32), 3, axis=-1)
    return (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536


def _blend(degenerate: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """`Image.blend`: a degenerate image at factor 0, the image at 1, and beyond."""
    degenerate, values = tf.cast(degenerate, tf.float32), tf.cast(image, tf.float32)
    blended = degenerate + tf.cast(factor, tf.float32) * (values - degenerate)
    return tf.cast(tf.clip_by_value(blended, 0.0, 255.0), tf.uint8)


def _affine(image: tf.Tensor, x: tuple, y: tuple) -> tf.Tensor:
    """`Image.transform(AFFINE, NEAREST)`: a pixel (x, y) comes from (x, y, 1) times each triple."""
    # Pillow's pixel centers lie at halves, TensorFlow's at whole numbers.
    row_x = (x[0], x[1], x[2] + 0.5 * (x[0] + x[1] - 1.0))
    row_y = (y[0], y[1], y[2] + 0.5 * (y[0] + y[1] - 1.0))
    transform = [tf.cast(value, tf.float32) for value in (*row_x, *row_y, 0.0, 0.0)]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.stack(transform)[tf.newaxis],
        output_shape=tf.shape(image)[:2],
        fill_value=float(FILL),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]
