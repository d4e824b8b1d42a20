"""EfficientNet B0 to B7 (Tan & Le 2019, arXiv:1905.11946, table 1 and section 3.3)."""

import math
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import layers
from smh_jax.models.base import ImageModel
from smh_jax.models.variant import Variant


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


class EfficientNet(ImageModel, kw_only=True):
    """EfficientNet for images of at least 32x32.

    Attributes (besides those of `ImageModel`):
        width_coefficient, depth_coefficient: compound scaling of B0's widths and repeats.
        width_multiplier: multiplies every width once more.
        dropout_rate: before the classifier.
        stochastic_depth_rate: block i of n is dropped with probability `rate * i / n`.
    """

    width_coefficient: float
    depth_coefficient: float
    dropout_rate: float = 0.2
    stochastic_depth_rate: float = 0.2
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3

    def _filters(self, filters: int) -> int:
        return layers.make_divisible(filters * self.width_coefficient, self.width_multiplier)

    def _blocks(self) -> list[tuple[str, Stage]]:
        """The name and the setting of each block; only a stage's first block strides."""
        return [
            (
                f"stage{number}_block{block + 1}",
                stage if block == 0 else stage._replace(stride=1),
            )
            for number, stage in enumerate(STAGES, start=1)
            for block in range(math.ceil(stage.repeats * self.depth_coefficient))
        ]

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Logits [batch, num_classes] in float32 for images [batch, height, width, channels].

        Training draws from the 'dropout' random stream.

        Raises:
            ValueError: for images smaller than 32 pixels, or a width that leaves no channel.
        """
        norm = self.norm(train)
        conv = partial(
            layers.ConvNorm,
            norm=norm,
            kernel_init=conv_init,
            dtype=self.dtype,
            activation=nn.swish,
        )
        x = layers.model_input(images, self.input_resolution, total_stride=32)
        x = conv(self._filters(STEM_FILTERS), 3, stride=2, name="stem")(x)
        blocks = self._blocks()
        for index, (name, block) in enumerate(blocks):
            input_filters = x.shape[-1]
            x = layers.InvertedResidual(
                self._filters(block.filters),
                expanded_filters=input_filters * block.expansion,
                kernel_size=block.kernel_size,
                stride=block.stride,
                activation=nn.swish,
                norm=norm,
                conv_init=conv_init,
                depthwise_init=depthwise_init,
                dtype=self.dtype,
                squeeze_excite=partial(
                    layers.SqueezeExcite,
                    # Of the block's input, before the expansion.
                    max(1, int(input_filters * SQUEEZE_RATIO)),
                    activation=nn.swish,
                    gate=nn.sigmoid,
                    kernel_init=conv_init,
                    dtype=self.dtype,
                ),
                stochastic_depth_rate=self.stochastic_depth_rate * index / len(blocks),
                name=name,
            )(x, train)
        x = conv(self._filters(HEAD_FILTERS), 1, name="head")(x)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dropout(self.dropout_rate, name="dropout")(x, deterministic=not train)
        x = nn.Dense(
            self.num_classes, kernel_init=classifier_init, dtype=self.dtype, name="classifier"
        )(x)
        return x.astype(jnp.float32)


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
