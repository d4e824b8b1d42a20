"""Copies of a dataset whose images all are changed in one way: other tasks of the same size."""

import numpy as np

from smh_jax.data.normalization import Normalization


def transformed(images: np.ndarray, transform: str) -> np.ndarray:
    """Images [examples, height, width, channels], uint8, as `DataConfig.transform` says."""
    if transform == "inverted":
        return 255 - images
    if transform == "rotated":
        return np.ascontiguousarray(np.rot90(images, axes=(1, 2)))
    if transform == "permuted":
        pixels = images.reshape(len(images), -1, images.shape[-1])
        # A generator whose draws are the same in every version of NumPy.
        order = np.random.RandomState(0).permutation(pixels.shape[1])
        return pixels[:, order].reshape(images.shape)
    return images


def normalization_of(normalization: Normalization, transform: str) -> Normalization:
    """Of the transformed images, given that of the others."""
    if transform != "inverted":
        return normalization
    return Normalization(tuple(1 - mean for mean in normalization.mean), normalization.stddev)


def check(transform: str, name: str, shape: tuple[int, int, int], in_files: bool) -> None:
    """Raises ValueError for a transform that a dataset's images cannot have.

    Args:
        transform: of the images.
        name, shape: of the dataset and its images.
        in_files: whether they are not in memory.
    """
    if transform != "none" and in_files:
        raise ValueError(
            f"data.transform={transform!r} must be 'none' for data.name={name!r}, which is not "
            "kept in memory"
        )
    if transform == "rotated" and shape[0] != shape[1]:
        raise ValueError(
            f"data.transform='rotated' is for square images; those of data.name={name!r} are "
            f"{shape[0]} x {shape[1]}: give a data.image_size"
        )
