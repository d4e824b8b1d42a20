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
