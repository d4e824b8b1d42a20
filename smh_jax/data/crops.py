"""How much of an image evaluation sees, by family of preprocessing.

Free of TensorFlow: a shipped model crops image files by it too.
"""

FAMILIES = ("plain", "resnet", "inception")

# Pixels around the crop of 'resnet', at the model's resolution.
_MARGIN = 32
_INCEPTION_SHARE = 0.875


def evaluation_share(family: str, image_size: int) -> float:
    """The centered crop's share of the image; `image_size` is the model's smaller side in pixels.

    For 'inception', whose crop has the image's aspect ratio, it is the share of each side, for the
    others, whose crop has the model's, that of the largest possible crop.
    """
    if family == "inception":
        return _INCEPTION_SHARE
    return image_size / (image_size + _MARGIN) if family == "resnet" else 1.0


def centered(
    image_size: tuple[int, int], size: tuple[int, int], share: float = 1.0
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a centered crop of an image that has a size's aspect.

    Args:
        image_size: height and width of the image.
        size: height and width, of which the ratio alone matters.
        share: of each side of the largest possible crop.
    """
    (image_height, image_width), (height, width) = image_size, size
    scale = min(image_height / height, image_width / width)
    # The smallest rounding error must not cost a pixel.
    rows, columns = (max(1, int(share * (scale * side) + 1e-6)) for side in size)
    return (image_height - rows + 1) // 2, (image_width - columns + 1) // 2, rows, columns
