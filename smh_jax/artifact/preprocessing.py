"""From an image file to what a model sees."""

import dataclasses
import math
import os

import numpy as np
import PIL.Image
import PIL.ImageOps

# Share of the cropped square's side in an image's shorter side, and how it is resized: as in the
# evaluation of the recipes of the same names.
_CROP_PADDING = 32
_INCEPTION_CROP = 0.875
_RESAMPLING = {
    "plain": PIL.Image.Resampling.BOX,
    "resnet": PIL.Image.Resampling.BICUBIC,
    "inception": PIL.Image.Resampling.BILINEAR,
}
_MODES = {1: "L", 3: "RGB"}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is done to images before a model sees them.

    Attributes:
        image_shape: (height, width, channels).
        mean, stddev: of each channel on the scale 0..1; pixels have the one subtracted and are
            divided by the other.
        crop: 'plain' takes the largest centred part of the right proportions, 'resnet' one of
            `size / (size + 32)` of it, 'inception' one of 7/8.
    """

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
            if len(values) != shape[2] or not all(math.isfinite(value) for value in values):
                raise ValueError(
                    f"{field}={values!r} must be {shape[2]} numbers, one for each channel"
                )
        if min(self.stddev) <= 0:
            raise ValueError(f"stddev={self.stddev!r} must be above 0")
        if self.crop not in _RESAMPLING:
            raise ValueError(f"crop={self.crop!r} must be one of {', '.join(_RESAMPLING)}")

    def load(self, path: str | os.PathLike[str]) -> np.ndarray:
        """An image file, cropped and resized: uint8 [height, width, channels].

        Raises:
            ValueError: if the file is not an image or is too large.
        """
        height, width, channels = self.image_shape
        if channels not in _MODES:
            raise ValueError(f"image files have 1 or 3 channels; the model wants {channels}")
        try:
            with PIL.Image.open(path) as image:
                image = PIL.ImageOps.exif_transpose(image).convert(_MODES[channels])
        except FileNotFoundError as error:
            raise ValueError(f"{path} does not exist") from error
        except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
            raise ValueError(f"{path} is not an image that can be read: {error}") from error
        share = 1.0
        if self.crop == "resnet":
            share = min(height, width) / (min(height, width) + _CROP_PADDING)
        elif self.crop == "inception":
            share = _INCEPTION_CROP
        scale = share * min(image.width / width, image.height / height)
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        box = (left, top, left + scale * width, top + scale * height)
        image = image.resize((width, height), _RESAMPLING[self.crop], box=box)
        return np.asarray(image, np.uint8).reshape(self.image_shape)

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """float32 [batch, height, width, channels] of uint8 images of the same shape.

        Raises:
            ValueError: for images of another shape or dtype.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            raise ValueError(
                f"images of {images.dtype} {images.shape} must be uint8 "
                f"[batch, {', '.join(map(str, self.image_shape))}]"
            )
        mean, stddev = np.asarray(self.mean, np.float32), np.asarray(self.stddev, np.float32)
        return images.astype(np.float32) * (1.0 / (255.0 * stddev)) - mean / stddev
