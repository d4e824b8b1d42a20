"""EfficientNet B0 to B7 (Tan & Le 2019, arXiv:1905.11946, table 1 and section 3.3)."""

import math
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import layers
from smh_jax.models.base import ConvNet, Variant, blocks


class Stage(NamedTuple):
    """A row of B0's table: blocks of equal kernel, expansion and output filters."""

    repeats: int
    kernel_size: int
    stride: int
    expansion: int
    filters: int


STEM_FILTERS = 32
HEAD_FILTERS = 1280
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
SQUEEZE_RATIO = 0.25
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# The originals' fan-out of a depthwise kernel is its area: of [k, k, 1, c], what Flax calls fan-in.
depthwise_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# Uniform within one over the square root of the number of classes.
classifier_init = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


class EfficientNet(ConvNet, kw_only=True):
    """EfficientNet for images of at least 32x32.

    Attributes (besides those of `ConvNet`):
        width_coefficient, depth_coefficient: compound scaling of B0's widths and repeats.
        width_multiplier: multiplies every width once more.
        dropout_rate: before the classifier.
        symmetric_padding: of convolutions as in PyTorch; False: as in TensorFlow, the original.
        stochastic_depth_rate: block i of n is dropped with probability `rate * i / n`.
    """

    width_coefficient: float
    depth_coefficient: float
    dropout_rate: float = 0.2
    symmetric_padding: bool = False
    stochastic_depth_rate: float = 0.2
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3

    def _filters(self, filters: int) -> int:
        return layers.make_divisible(filters * self.width_coefficient, self.width_multiplier)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        shared = {
            "norm": self.norm(train),
            "dtype": self.dtype,
            "activation": nn.swish,
            "padding": "SYMMETRIC" if self.symmetric_padding else "SAME",
        }
        conv = partial(layers.ConvNorm, kernel_init=conv_init, **shared)
        squeeze_excite = partial(
            layers.SqueezeExcite,
            gate=nn.sigmoid,
            kernel_init=conv_init,
            dtype=self.dtype,
            activation=nn.swish,
        )
        x = layers.model_input(images, self.input_resolution, total_stride=32)
        x = conv(self._filters(STEM_FILTERS), 3, stride=2, name="stem")(x)
        repeats = [math.ceil(stage.repeats * self.depth_coefficient) for stage in STAGES]
        strides = [stage.stride for stage in STAGES]
        for index, (number, stride, name) in enumerate(blocks(repeats, strides)):
            stage, input_filters = STAGES[number], x.shape[-1]
            x = layers.InvertedResidual(
                self._filters(stage.filters),
                expanded_filters=input_filters * stage.expansion,
                kernel_size=stage.kernel_size,
                stride=stride,
                conv_init=conv_init,
                depthwise_init=depthwise_init,
                # A share of the block's input, before the expansion.
                squeeze_excite=partial(squeeze_excite, max(1, int(input_filters * SQUEEZE_RATIO))),
                stochastic_depth_rate=self.stochastic_depth_rate * index / sum(repeats),
                name=name,
                **shared,
            )(x, train)
        x = conv(self._filters(HEAD_FILTERS), 1, name="head")(x)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dropout(self.dropout_rate, name="dropout")(x, deterministic=not train)
        return self.classify(x, classifier_init)


VARIANTS = {
    f"efficientnet_b{number}": Variant(
        EfficientNet,
        resolution,
        {"width_coefficient": width, "depth_coefficient": depth},
        {"dropout_rate": dropout_rate},
    )
    for number, (width, depth, resolution, dropout_rate) in enumerate(
        (
            (1.0, 1.0, 224, 0.2),
            (1.0, 1.1, 240, 0.2),
            (1.1, 1.2, 260, 0.3),
            (1.2, 1.4, 300, 0.3),
            (1.4, 1.8, 380, 0.4),
            (1.6, 2.2, 456, 0.4),
            (1.8, 2.6, 528, 0.5),
            (2.0, 3.1, 600, 0.5),
        )
    )
}
