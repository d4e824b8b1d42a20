"""MobileNetV3 large and small (Howard et al. 2019, arXiv:1905.02244, tables 1 and 2)."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import layers
from smh_jax.models.base import ConvNet, Variant


class Block(NamedTuple):
    """A row of the paper's tables; the expansion is given as a ratio to the block's input."""

    kernel_size: int
    expansion: float
    filters: int
    squeeze_excite: bool
    activation: layers.Activation
    stride: int


LARGE = (
    Block(3, 1, 16, False, nn.relu, 1),
    Block(3, 4, 24, False, nn.relu, 2),
    Block(3, 3, 24, False, nn.relu, 1),
    Block(5, 3, 40, True, nn.relu, 2),
    Block(5, 3, 40, True, nn.relu, 1),
    Block(5, 3, 40, True, nn.relu, 1),
    Block(3, 6, 80, False, nn.hard_swish, 2),
    Block(3, 200 / 80, 80, False, nn.hard_swish, 1),
    Block(3, 184 / 80, 80, False, nn.hard_swish, 1),
    Block(3, 184 / 80, 80, False, nn.hard_swish, 1),
    Block(3, 6, 112, True, nn.hard_swish, 1),
    Block(3, 6, 112, True, nn.hard_swish, 1),
    Block(5, 6, 160, True, nn.hard_swish, 2),
    Block(5, 6, 160, True, nn.hard_swish, 1),
    Block(5, 6, 160, True, nn.hard_swish, 1),
)
SMALL = (
    Block(3, 1, 16, True, nn.relu, 2),
    Block(3, 72 / 16, 24, False, nn.relu, 2),
    Block(3, 88 / 24, 24, False, nn.relu, 1),
    Block(5, 4, 40, True, nn.hard_swish, 2),
    Block(5, 6, 40, True, nn.hard_swish, 1),
    Block(5, 6, 40, True, nn.hard_swish, 1),
    Block(5, 3, 48, True, nn.hard_swish, 1),
    Block(5, 3, 48, True, nn.hard_swish, 1),
    Block(5, 6, 96, True, nn.hard_swish, 2),
    Block(5, 6, 96, True, nn.hard_swish, 1),
    Block(5, 6, 96, True, nn.hard_swish, 1),
)
STEM_FILTERS = 16
HEAD_EXPANSION = 6
SQUEEZE_RATIO = 0.25
# Of every kernel, the classifier's too: the standard deviation before truncation at two of them.
kernel_init = nn.initializers.truncated_normal(0.09)


class MobileNetV3(ConvNet, kw_only=True):
    """MobileNetV3 for images of at least 32x32.

    Attributes (besides those of `ConvNet`):
        blocks: the inverted residual blocks, in order.
        hidden_filters: of the 1x1 convolution between the pooled features and the classifier.
        width_multiplier: multiplies every width but the stem's; below 1, not the hidden layer's.
        dropout_rate: before the classifier.
        symmetric_padding: of convolutions as in PyTorch; False: as in TensorFlow, the original.
    """

    blocks: Sequence[Block]
    hidden_filters: int
    dropout_rate: float = 0.2
    symmetric_padding: bool = False
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        shared = {
            "norm": self.norm(train),
            "dtype": self.dtype,
            "padding": "SYMMETRIC" if self.symmetric_padding else "SAME",
        }
        conv = partial(layers.ConvNorm, kernel_init=kernel_init, activation=nn.hard_swish, **shared)
        x = layers.model_input(images, self.input_resolution, total_stride=32)
        x = conv(STEM_FILTERS, 3, stride=2, name="stem")(x)
        for number, block in enumerate(self.blocks, start=1):
            expanded_filters = layers.make_divisible(x.shape[-1] * block.expansion)
            squeeze_excite = partial(
                layers.SqueezeExcite,
                layers.make_divisible(expanded_filters * SQUEEZE_RATIO),
                activation=nn.relu,
                gate=nn.hard_sigmoid,
                kernel_init=kernel_init,
                dtype=self.dtype,
            )
            x = layers.InvertedResidual(
                layers.make_divisible(block.filters, self.width_multiplier),
                expanded_filters=expanded_filters,
                kernel_size=block.kernel_size,
                stride=block.stride,
                activation=block.activation,
                conv_init=kernel_init,
                depthwise_init=kernel_init,
                squeeze_excite=squeeze_excite if block.squeeze_excite else None,
                name=f"block{number}",
                **shared,
            )(x, train)
        x = conv(layers.make_divisible(x.shape[-1] * HEAD_EXPANSION), 1, name="head")(x)
        x = jnp.mean(x, axis=(1, 2), keepdims=True)
        x = nn.Conv(
            # As in V2, a smaller multiplier leaves the last layer before the classifier as it is.
            layers.make_divisible(self.hidden_filters, max(1.0, self.width_multiplier)),
            (1, 1),
            kernel_init=kernel_init,
            dtype=self.dtype,
            name="hidden",
        )(x)
        x = jnp.squeeze(nn.hard_swish(x), axis=(1, 2))
        x = nn.Dropout(self.dropout_rate, name="dropout")(x, deterministic=not train)
        return self.classify(x, kernel_init)


VARIANTS = {
    "mobilenet_v3_large": Variant(MobileNetV3, 224, {"blocks": LARGE, "hidden_filters": 1280}),
    "mobilenet_v3_small": Variant(MobileNetV3, 224, {"blocks": SMALL, "hidden_filters": 1024}),
}
