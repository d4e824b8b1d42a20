"""Image files as a shipped model sees them; needs Pillow, not TensorFlow."""

import contextlib
import dataclasses
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import PIL.Image
import PIL.ImageOps

from smh_jax.config.names import check_choice
from smh_jax.data import crops

_MODES = {1: "L", 3: "RGB"}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is done to images before a model sees them.

    Attributes:
        image_shape: (height, width, channels).
        mean, stddev: of each channel, on the scale 0..1, for normalization.
        crop: what is taken of an image file, centered (see `smh_jax.data.crops`): 'plain', resized
            by averages, 'resnet', bicubic, or 'inception', bilinear.
    """

    task: ClassVar[str] = "image_classification"
    input_name: ClassVar[str] = "images"
    dtype: ClassVar[str] = "float32"

    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    stddev: tuple[float, ...]
    crop: str = "plain"

    def __post_init__(self) -> None:
        shape = self.image_shape
        if len(shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in shape):
            raise ValueError(f"image_shape={shape!r} must be (height, width, channels)")
        for field in ("mean", "stddev"):
            values = getattr(self, field)
            if len(values) != shape[2] or not all(map(math.isfinite, values)):
                raise ValueError(f"{field}={values!r} must be {shape[2]} numbers, one per channel")
        if min(self.stddev) <= 0:
            raise ValueError(f"stddev={self.stddev!r} must be above 0")
        check_choice("crop", self.crop, crops.FAMILIES)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return self.image_shape

    @property
    def about(self) -> Mapping[str, Any]:
        """What the shape of an input does not say."""
        return {name: getattr(self, name) for name in ("mean", "stddev", "crop")}

    def load(self, path: str | os.PathLike[str]) -> np.ndarray:
        """An image file, cropped and resized: uint8 [height, width, channels].

        Raises:
            ValueError: if the file is not an image or is too large.
        """
        height, width, channels = self.image_shape
        if channels not in _MODES:
            raise ValueError(f"image files have 1 or 3 channels; the model wants {channels}")
        try:
            with _strict(), PIL.Image.open(path) as image:
                image = _in_8_bits(PIL.ImageOps.exif_transpose(image)).convert(_MODES[channels])
        except FileNotFoundError as error:
            raise ValueError(f"{path} does not exist") from error
        except MemoryError:
            raise
        except Exception as error:
            # What a damaged file brings about in a decoder is of no one type.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path} is not an image that can be read: {reason:.300}") from error
        image = image.crop(self._window(image.width, image.height))
        pixels = np.asarray(image, np.float64).reshape(image.height, image.width, channels)
        # Other than einsum as it is, these are matrix products.
        pixels = np.tensordot(_resizing(self.crop, image.height, height), pixels, 1)
        columns = _resizing(self.crop, image.width, width)
        pixels = np.tensordot(pixels, columns, ([1], [1])).swapaxes(1, 2)
        return np.round(pixels).clip(0, 255).astype(np.uint8)

    def _window(self, image_width: int, image_height: int) -> tuple[int, int, int, int]:
        """Left, upper, right and lower border, in pixels, of what is taken of an image."""
        image_size, size = (image_height, image_width), self.image_shape[:2]
        share = crops.evaluation_share(self.crop, min(size))
        upper, left, height, width = crops.centered(
            image_size, image_size if self.crop == "inception" else size, share
        )
        return left, upper, left + width, upper + height

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """float32 [batch, height, width, channels] of uint8 images of the same shape.

        Raises:
            ValueError: for images of a different shape or dtype.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            raise ValueError(
                f"images of {images.dtype} {images.shape} must be uint8 "
                f"[batch, {', '.join(map(str, self.image_shape))}]"
            )
        mean, stddev = np.asarray(self.mean, np.float32), np.asarray(self.stddev, np.float32)
        return images.astype(np.float32) * (1.0 / (255.0 * stddev)) - mean / stddev


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Makes errors of Pillow's warnings that an image has too many pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        yield


def _in_8_bits(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image with 8 bits per channel; Pillow itself would clip brighter pixels to white."""
    if image.mode.startswith("I;16"):
        return PIL.Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers of no known range; save it in 8 or 16 bits")
    return image


def _resizing(crop: str, size: int, new_size: int) -> np.ndarray:
    """Shares [new_size, size] of pixels along an axis in resized ones; rows add up to 1.

    'plain' averages over what a new pixel covers. The others interpolate between the nearest
    pixels, as in training, also where that leaves out some: 'resnet' with the cubic kernel of Keys
    (Cubic convolution interpolation for digital image processing, 1981, a = -1/2).
    """
    pixels = np.arange(size)
    if crop == "plain":
        borders = np.arange(new_size + 1)[:, np.newaxis] * (size / new_size)
        shares = np.minimum(borders[1:], pixels + 1) - np.maximum(borders[:-1], pixels)
        shares = np.maximum(shares, 0)
    else:
        centers = (np.arange(new_size)[:, np.newaxis] + 0.5) * (size / new_size) - 0.5
        d = np.abs(centers - pixels)
        if crop == "inception":
            shares = np.maximum(1 - d, 0)
        else:
            outer = np.where(d < 2, ((2.5 - 0.5 * d) * d - 4) * d + 2, 0)
            shares = np.where(d < 1, (1.5 * d - 2.5) * d * d + 1, outer)
    return shares / shares.sum(axis=1, keepdims=True)
