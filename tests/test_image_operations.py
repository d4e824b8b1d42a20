"""Every operation against Pillow, on photographs and on images with extreme histograms."""

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from smh_jax.data import image_operations as ops


def images():
    photo = np.ascontiguousarray(sklearn.datasets.load_sample_images().images[0][100:180, 200:292])
    random = np.random.default_rng(0)
    return {
        "photo": photo,
        "dark": photo // 4,
        "two values": np.where(photo > 100, 200, 17).astype(np.uint8),
        "constant": np.full((40, 50, 3), 77, np.uint8),
        "one channel": np.stack([photo[..., 0], 0 * photo[..., 0], 255 + 0 * photo[..., 0]], -1),
        "noise": random.integers(0, 256, (63, 31, 3), np.uint8),
    }


IMAGES = images()


def affine(x, y):
    def transform(image):
        return image.transform(
            image.size, Image.AFFINE, (*x, *y), Image.NEAREST, fillcolor=(ops.FILL,) * 3
        )

    return transform


def solarize_add(addition):
    return lambda image: image.point(
        [min(v + addition, 255) if v < 128 else v for v in range(256)] * 3
    )


CASES = {
    "autocontrast": (ops.autocontrast, ImageOps.autocontrast),
    "equalize": (ops.equalize, ImageOps.equalize),
    "invert": (ops.invert, ImageOps.invert),
    **{
        f"posterize {bits}": (
            lambda image, bits=bits: ops.posterize(image, bits),
            lambda image, bits=bits: ImageOps.posterize(image, bits),
        )
        for bits in (1, 2, 4, 8)
    },
    **{
        f"solarize {threshold}": (
            lambda image, threshold=threshold: ops.solarize(image, threshold),
            lambda image, threshold=threshold: ImageOps.solarize(image, threshold),
        )
        for threshold in (0, 76, 256)
    },
    **{
        f"solarize_add {addition}": (
            lambda image, addition=addition: ops.solarize_add(image, addition),
            solarize_add(addition),
        )
        for addition in (0, 33, 110)
    },
    **{
        f"{name} {factor}": (
            lambda image, ours=ours, factor=factor: ours(image, factor),
            lambda image, theirs=theirs, factor=factor: theirs(image).enhance(factor),
        )
        for name, ours, theirs in (
            ("color", ops.color, ImageEnhance.Color),
            ("contrast", ops.contrast, ImageEnhance.Contrast),
            ("brightness", ops.brightness, ImageEnhance.Brightness),
            ("sharpness", ops.sharpness, ImageEnhance.Sharpness),
        )
        for factor in (0.1, 0.46, 1.0, 1.9)
    },
    **{
        f"shear {level}": (
            lambda image, level=level: ops.shear_y(ops.shear_x(image, level), -level),
            lambda image, level=level: affine((1, 0, 0), (-level, 1, 0))(
                affine((1, level, 0), (0, 1, 0))(image)
            ),
        )
        for level in (-0.25, 0.125)
    },
    **{
        f"translate {pixels}": (
            lambda image, pixels=pixels: ops.translate_y(ops.translate_x(image, pixels), -pixels),
            lambda image, pixels=pixels: affine((1, 0, 0), (0, 1, -pixels))(
                affine((1, 0, pixels), (0, 1, 0))(image)
            ),
        )
        for pixels in (-9.0, 30.0)
    },
}


@pytest.mark.parametrize("case", CASES)
def test_operations_equal_pillow(case):
    ours, theirs = CASES[case]
    changed = 0
    for name, image in IMAGES.items():
        expected = np.asarray(theirs(Image.fromarray(image)))
        np.testing.assert_array_equal(ours(tf.constant(image)).numpy(), expected, err_msg=name)
        changed += np.any(expected != image)
    identity = case.split()[-1] in ("1.0", "256", "8", "0") and case != "solarize 0"
    assert bool(changed) != identity


@pytest.mark.parametrize("degrees", [-24.0, 3.0, 15.0])
def test_rotation_and_shear_by_any_amount_equal_pillow_but_for_ties(degrees):
    # Pillow computes coordinates in fixed point: of a pixel whose origin lies between two
    # neighbours, either may be taken.
    level = degrees / 80
    for image in IMAGES.values():
        pillow = Image.fromarray(image)
        for ours, theirs in (
            (ops.rotate(image, degrees), pillow.rotate(degrees, fillcolor=(ops.FILL,) * 3)),
            (ops.shear_x(image, level), affine((1, level, 0), (0, 1, 0))(pillow)),
            (ops.shear_y(image, level), affine((1, 0, 0), (level, 1, 0))(pillow)),
        ):
            different = np.any(ours.numpy() != np.asarray(theirs), axis=-1)
            assert different.mean() < 0.003
            assert np.any(ours.numpy() != image)


@pytest.mark.parametrize("center", [(0, 0), (20, 79), (40, 40)])
def test_cutout_fills_a_square_that_ends_at_the_border(center):
    image = IMAGES["photo"]
    expected = Image.fromarray(image)
    y, x = center
    expected.paste((ops.FILL,) * 3, (max(x - 16, 0), max(y - 16, 0), x + 16, y + 16))
    np.testing.assert_array_equal(ops.cutout(image, 16, center).numpy(), np.asarray(expected))
