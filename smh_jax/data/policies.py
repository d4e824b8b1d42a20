"""Augmentation policies: AutoAugment's for ImageNet, and RandAugment.

Nothing is drawn here: the random numbers come as arguments, uniform on [0, 1).
"""

import functools

import tensorflow as tf

from smh_jax.data import image_operations as ops

# Random numbers of one operation of a policy.
DRAWS = 5

# AutoAugment's policy for ImageNet as EfficientNet was trained with it, "v0": one of the 25 pairs
# is taken, and each of its operations is done with its probability, at its level of 10.
_POLICY_V0 = """
equalize      0.8  1, shear_y       0.8  4
color         0.4  9, equalize      0.6  3
color         0.4  1, rotate        0.6  8
solarize      0.8  3, equalize      0.4  7
solarize      0.4  2, solarize      0.6  2
color         0.2  0, equalize      0.8  8
equalize      0.4  8, solarize_add  0.8  3
shear_x       0.2  9, rotate        0.6  8
color         0.6  1, equalize      1.0  2
invert        0.4  9, rotate        0.6  0
equalize      1.0  9, shear_y       0.6  3
color         0.4  7, equalize      0.6  0
posterize     0.4  6, autocontrast  0.4  7
solarize      0.6  8, color         0.6  9
solarize      0.2  4, rotate        0.8  9
rotate        1.0  7, translate_y   0.8  9
shear_x       0.0  0, solarize      0.8  4
shear_y       0.8  0, color         0.6  4
color         1.0  0, rotate        0.6  2
equalize      0.8  4, equalize      0.0  8
equalize      1.0  4, autocontrast  0.6  2
shear_y       0.4  7, solarize_add  0.6  7
posterize     0.8  2, solarize      0.6 10
solarize      0.6  8, equalize      0.6  1
color         0.8  6, rotate        0.4  5
"""


def autoaugment_v0(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """AutoAugment (Cubuk et al. 2019) of an image [height, width, 3], uint8, by draws [2, DRAWS].

    The policy is that of EfficientNet's training.
    """
    operations, probabilities, levels = map(tf.constant, _policy_v0())
    pair = tf.cast(draws[0, 0] * operations.shape[0], tf.int32)
    for at in range(2):
        operation, level = operations[pair, at], levels[pair, at]
        _, chance, *rest = tf.unstack(draws[at])
        image = tf.cond(
            chance < probabilities[pair, at],
            functools.partial(_apply, image, operation, level, rest, translation=250.0, hole=100.0),
            functools.partial(tf.identity, image),
        )
    return image


def randaugment(image: tf.Tensor, draws: tf.Tensor, magnitude: float) -> tf.Tensor:
    """RandAugment (Cubuk et al. 2020): operations drawn evenly, all at one magnitude.

    Args:
        image: [height, width, 3], uint8.
        draws: [layers, DRAWS], uniform on [0, 1); each layer is one operation.
        magnitude: level of each operation; 10 is the largest that AutoAugment uses.
    """
    for layer in tf.unstack(draws):
        choice, _, *rest = tf.unstack(layer)
        operation = tf.cast(choice * len(OPERATIONS), tf.int32)
        image = _apply(
            image, operation, tf.constant(magnitude, tf.float32), rest, translation=100.0, hole=40.0
        )
    return image


OPERATIONS = (
    *("autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add"),
    *("color", "contrast", "brightness", "sharpness"),
    *("shear_x", "shear_y", "translate_x", "translate_y", "cutout"),
)


# A function of its own is traced once, not once for each layer of each pipeline: the sixteen
# branches take seconds.
@tf.function(autograph=False)
def _apply(
    image: tf.Tensor,
    operation: tf.Tensor,
    level: tf.Tensor,
    draws: list[tf.Tensor],
    *,
    translation: float,
    hole: float,
) -> tf.Tensor:
    """The image [height, width, 3], uint8, after one operation of a policy.

    Args:
        image, operation: the image before, and the operation's number in `OPERATIONS`, int32.
        level: 0 to 10, from weak to strong for most operations; some take more than 10.
        draws: the side to which a geometric operation goes (below 0.5: as given), then the center
            (y, x) of a cutout, relative to the image's height and width.
        translation: pixels at level 10.
        hole: half the side of a cutout in pixels at level 10.
    """
    side, *center = draws
    amount = level / 10.0
    signed = tf.where(side < 0.5, amount, -amount)
    whole = functools.partial(tf.cast, dtype=tf.int32)
    arguments = {
        **dict.fromkeys(("autocontrast", "equalize", "invert"), ()),
        "rotate": (30.0 * signed,),
        # Levels up to 2 ask for no bit at all; one stays, as in EfficientNet's training.
        "posterize": (tf.clip_by_value(whole(4.0 * amount), 1, 8),),
        "solarize": (whole(256.0 * amount),),
        "solarize_add": (whole(110.0 * amount),),
        **dict.fromkeys(("color", "contrast", "brightness", "sharpness"), (1.8 * amount + 0.1,)),
        **dict.fromkeys(("shear_x", "shear_y"), (0.3 * signed,)),
        **dict.fromkeys(("translate_x", "translate_y"), (translation * signed,)),
        "cutout": (
            whole(hole * amount),
            whole(tf.stack(center) * tf.cast(tf.shape(image)[:2], tf.float32)),
        ),
    }
    branches = [functools.partial(getattr(ops, n), image, *arguments[n]) for n in OPERATIONS]
    return tf.ensure_shape(tf.switch_case(operation, branches), image.shape)


def _policy_v0() -> tuple[list[list[int]], list[list[float]], list[list[float]]]:
    """Operation numbers, probabilities and levels, each [25][2]."""
    pairs = [[step.split() for step in line.split(",")] for line in _POLICY_V0.strip().splitlines()]
    return (
        [[OPERATIONS.index(name) for name, _, _ in pair] for pair in pairs],
        [[float(probability) for _, probability, _ in pair] for pair in pairs],
        [[float(level) for _, _, level in pair] for pair in pairs],
    )
