"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 2)."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import layers
from smh_jax.models.base import ConvNet, Variant, blocks


class Stage(NamedTuple):
    """A row of the paper's table: blocks of equal expansion and output filters."""

    expansion: int
    filters: int
    repeats: int
    stride: int


STEM_FILTERS = 32
HEAD_FILTERS = 1280
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
# Of every kernel, the classifier's too: the standard deviation before truncation at two of them.
kernel_init = nn.initializers.truncated_normal(0.09)


class MobileNetV2(ConvNet, kw_only=True):
    """MobileNetV2 for images of at least 32x32.

    Attributes (besides those of `ConvNet`):
        width_multiplier: multiplies every width; below 1, all but the last layer's.
        dropout_rate: before the classifier.
        symmetric_padding: of convolutions as in PyTorch; False: as in TensorFlow, the original.
    """

    dropout_rate: float = 0.2
    symmetric_padding: bool = False
    bn_momentum: float = 0.997
    bn_epsilon: float = 1e-3

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        shared = {
            "norm": self.norm(train),
            "dtype": self.dtype,
            "activation": nn.relu6,
            "padding": "SYMMETRIC" if self.symmetric_padding else "SAME",
        }
        conv = partial(layers.ConvNorm, kernel_init=kernel_init, **shared)
        x = layers.model_input(images, self.input_resolution, total_stride=32)
        x = conv(
            layers.make_divisible(STEM_FILTERS, self.width_multiplier), 3, stride=2, name="stem"
        )(x)
        repeats = [stage.repeats for stage in STAGES]
        strides = [stage.stride for stage in STAGES]
        for number, stride, name in blocks(repeats, strides):
            x = layers.InvertedResidual(
                layers.make_divisible(STAGES[number].filters, self.width_multiplier),
                expanded_filters=x.shape[-1] * STAGES[number].expansion,
                kernel_size=3,
                stride=stride,
                conv_init=kernel_init,
                depthwise_init=kernel_init,
                name=name,
                **shared,
            )(x, train)
        # Section 5 of the paper: a smaller multiplier leaves the last layer as it is.
        x = conv(
            layers.make_divisible(HEAD_FILTERS, max(1.0, self.width_multiplier)), 1, name="head"
        )(x)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dropout(self.dropout_rate, name="dropout")(x, deterministic=not train)
        return self.classify(x, kernel_init)


VARIANTS = {"mobilenet_v2": Variant(MobileNetV2, 224)}
