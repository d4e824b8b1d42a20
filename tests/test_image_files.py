"""Image files come to a stored model as the dataset's images came to it in training."""

import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from smh_jax import data
from smh_jax.data.preprocessing import evaluation_image
from smh_jax.shipping import artifact

MEAN, STDDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def smooth(height, width):
    """A colored picture without sharp edges, which survives JPEG."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + c) * np.cos(y / 13 - c) for c in range(3)]
    return np.round(127 + 100 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize("crop", ["plain", "resnet", "inception"])
@pytest.mark.parametrize(("height", "width"), [(120, 200), (199, 131), (40, 48)])
def test_files_give_what_the_evaluation_sees(crop, height, width, tmp_path):
    path = tmp_path / "image.jpg"
    PIL.Image.fromarray(smooth(height, width)).save(path, quality=95, subsampling=0)
    made = artifact.Preprocessing((48, 48, 3), MEAN, STDDEV, crop)
    found = made.normalize(made.load(path)[np.newaxis])[0]
    wanted = evaluation_image(
        tf.constant(path.read_bytes()),
        family=crop,
        image_size=48,
        normalization=data.Normalization(MEAN, STDDEV),
    ).numpy()
    # Pixel values are rounded to whole numbers, by the decoder too.
    error = 255 * np.asarray(STDDEV) * np.abs(found - wanted)
    assert error.max() < 1.6
    assert error.mean() < 0.4
    assert np.ptp(found) > 2


def test_the_three_crops_differ(tmp_path):
    path = tmp_path / "image.png"
    PIL.Image.fromarray(smooth(100, 160)).save(path)
    made = [
        artifact.Preprocessing((32, 32, 3), MEAN, STDDEV, crop).load(path)
        for crop in ("plain", "resnet", "inception")
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(made[one].astype(int) - made[other]).max() > 10


def test_images_of_the_models_size_are_not_changed(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "image.png")
    same = artifact.Preprocessing((28, 28, 1), (0.3,), (0.4,))
    np.testing.assert_array_equal(same.load(tmp_path / "image.png")[..., 0], pixels)
    half = artifact.Preprocessing((14, 14, 1), (0.3,), (0.4,))
    means = pixels.reshape(14, 2, 14, 2).mean((1, 3))
    assert np.abs(half.load(tmp_path / "image.png")[..., 0] - means).max() <= 0.5


def test_colors_become_what_the_model_sees(tmp_path):
    grey = PIL.Image.new("L", (9, 9), 77)
    path = tmp_path / "image.png"
    for mode in ("L", "RGB", "RGBA", "P", "LA"):
        grey.convert(mode).save(path)
        colored = artifact.Preprocessing((9, 9, 3), MEAN, STDDEV).load(path)
        assert np.all(colored == 77), mode
        assert np.all(artifact.Preprocessing((9, 9, 1), (0.3,), (0.4,)).load(path) == 77), mode


def test_pixels_of_other_depths(tmp_path):
    grey = artifact.Preprocessing((9, 9, 1), (0.3,), (0.4,))
    path = tmp_path / "image.tiff"
    PIL.Image.fromarray(np.full((9, 9), 77 * 257, np.uint16)).save(path)
    assert np.all(grey.load(path) == 77)
    assert np.all(artifact.Preprocessing((9, 9, 3), MEAN, STDDEV).load(path) == 77)
    PIL.Image.fromarray(np.eye(9) > 0).save(path)
    np.testing.assert_array_equal(grey.load(path)[..., 0], 255 * np.eye(9))
    PIL.Image.new("CMYK", (9, 9), (0, 0, 0, 178)).save(path)
    assert np.all(grey.load(path) == 77)
    for dtype in (np.float32, np.int32):
        PIL.Image.fromarray(np.full((9, 9), 77, dtype)).save(path)
        with pytest.raises(ValueError, match=r"image.tiff is not .* save it in 8 or 16 bits"):
            grey.load(path)


def test_files_that_are_cut_off_or_animated(tmp_path):
    grey = artifact.Preprocessing((9, 9, 1), (0.3,), (0.4,))
    frames = [PIL.Image.new("L", (9, 9), value) for value in (77, 200)]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert np.all(grey.load(tmp_path / "image.gif") == 77)
    path = tmp_path / "image.png"
    PIL.Image.fromarray(smooth(90, 90)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"image.png is not an image that can be read: .*trunc"):
        grey.load(path)


@pytest.mark.parametrize("side", [10_000, 30_000, 2**31 - 1])
def test_files_that_claim_too_many_pixels(side, tmp_path):
    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path = tmp_path / "image.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(ValueError, match=r"image.png is not .*decompression bomb") as refused:
        artifact.Preprocessing((9, 9, 1), (0.3,), (0.4,)).load(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "bmp", "webp", "ico", "ppm"])
def test_files_with_other_bytes(suffix, tmp_path):
    grey = artifact.Preprocessing((9, 9, 1), (0.3,), (0.4,))
    path = tmp_path / f"image.{suffix}"
    PIL.Image.fromarray(smooth(20, 24)).save(path)
    sound, random = path.read_bytes(), np.random.default_rng(0)
    messages = []
    for _ in range(60):
        content = bytearray(sound)
        for position in random.integers(len(content), size=3):
            content[position] = random.integers(256)
        path.write_bytes(content[: random.choice([len(content), random.integers(len(content))])])
        try:
            with warnings.catch_warnings():
                # Of what Pillow can make up for.
                warnings.simplefilter("ignore")
                assert grey.load(path).shape == (9, 9, 1)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) >= 10
    for message in messages:
        assert message.startswith(f"{path} is not an image that can be read: ")
        assert len(message) < 600
        assert "\n" not in message


def test_pictures_taken_sideways_are_turned(tmp_path):
    picture = PIL.Image.fromarray(smooth(40, 40))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    picture.rotate(-90).save(tmp_path / "upright.png")
    made = artifact.Preprocessing((40, 40, 3), MEAN, STDDEV)
    np.testing.assert_array_equal(
        made.load(tmp_path / "turned.png"), made.load(tmp_path / "upright.png")
    )


@pytest.mark.parametrize(("fields", "match"), [
    ({"image_shape": (8, 8)}, "image_shape"), ({"image_shape": (8, 0, 3)}, "image_shape"),
    ({"mean": (0.5,)}, "mean=.* must be 3 numbers"), ({"stddev": (1.0, 1.0, 0.0)}, "above 0"),
    ({"mean": (0.0, 0.0, float("nan"))}, "mean"), ({"crop": "center"}, "one of plain, resnet"),
])  # fmt: skip
def test_what_cannot_be(fields, match):
    good = {"image_shape": (8, 8, 3), "mean": MEAN, "stddev": STDDEV}
    with pytest.raises(ValueError, match=match):
        artifact.Preprocessing(**(good | fields))


def test_images_of_another_shape_are_refused():
    made = artifact.Preprocessing((8, 8, 1), (0.3,), (0.4,))
    for images in (np.zeros((2, 8, 9, 1), np.uint8), np.zeros((2, 8, 8, 1), np.float32)):
        with pytest.raises(ValueError, match="must be uint8"):
            made.normalize(images)


def test_a_shipped_model_needs_no_tensorflow(run_python):
    code = "import sys, smh_jax.predict, smh_jax.data; assert 'tensorflow' not in sys.modules"
    run_python("-c", code, anew=True)
