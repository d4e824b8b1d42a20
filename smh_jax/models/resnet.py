"""The ResNets for ImageNet (He et al. 2016, arXiv:1512.03385, table 1) in the form called v1.5."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import layers
from smh_jax.models.base import ConvNet, Variant, blocks

STEM_WIDTH = 64
STAGE_WIDTHS = (64, 128, 256, 512)
BOTTLENECK_EXPANSION = 4
# He et al. 2015 (arXiv:1502.01852), in its fan-out form as in Goyal et al. 2017.
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
classifier_init = nn.initializers.normal(0.01)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or a 3x3 between two 1x1 (`bottleneck`), alongside a shortcut.

    The shortcut is a 1x1 convolution where the shape changes. The scale of the last batch norm
    starts at 0, so that every block starts as its shortcut (Goyal et al. 2017, section 5.1).
    """

    width: int
    stride: int
    bottleneck: bool
    stride_on_3x3: bool
    norm: layers.ModuleDef
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, ceil(h / stride), ceil(w / stride), filters].

        `filters` is the width, four times the width for a bottleneck.
        """
        conv = partial(layers.ConvNorm, norm=self.norm, kernel_init=conv_init, dtype=self.dtype)
        conv_relu = partial(conv, activation=nn.relu)
        last_norm = partial(self.norm, scale_init=nn.initializers.zeros)
        shortcut, y = x, x
        filters = self.width * (BOTTLENECK_EXPANSION if self.bottleneck else 1)
        if self.stride != 1 or x.shape[-1] != filters:
            shortcut = conv(filters, 1, stride=self.stride, name="shortcut")(x)
        if self.bottleneck:
            strides = (1, self.stride) if self.stride_on_3x3 else (self.stride, 1)
            y = conv_relu(self.width, 1, stride=strides[0], name="conv1")(y)
            y = conv_relu(self.width, 3, stride=strides[1], padding=1, name="conv2")(y)
            y = conv(filters, 1, norm=last_norm, name="conv3")(y)
        else:
            y = conv_relu(filters, 3, stride=self.stride, padding=1, name="conv1")(y)
            y = conv(filters, 3, padding=1, norm=last_norm, name="conv2")(y)
        return nn.relu(shortcut + y)


class ResNet(ConvNet, kw_only=True):
    """ResNet of four stages for images of at least 32x32.

    Attributes (besides those of `ConvNet`):
        stage_sizes: blocks of each stage.
        bottleneck: blocks of three convolutions rather than two.
        stride_on_3x3: strided bottlenecks stride in their 3x3 (v1.5); False: in the first 1x1 (v1).
        width_multiplier: multiplies every width.
    """

    stage_sizes: Sequence[int]
    bottleneck: bool
    stride_on_3x3: bool = True
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        shared = {"norm": self.norm(train), "dtype": self.dtype}
        x = layers.model_input(images, self.input_resolution, total_stride=32)
        stem_width = layers.scale_width(STEM_WIDTH, self.width_multiplier)
        x = layers.ConvNorm(
            stem_width,
            7,
            stride=2,
            padding=3,
            kernel_init=conv_init,
            activation=nn.relu,
            name="stem",
            **shared,
        )(x)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, stride, name in blocks(self.stage_sizes, (1, 2, 2, 2)):
            x = ResidualBlock(
                layers.scale_width(STAGE_WIDTHS[stage], self.width_multiplier),
                stride=stride,
                bottleneck=self.bottleneck,
                stride_on_3x3=self.stride_on_3x3,
                name=name,
                **shared,
            )(x)
        return self.classify(jnp.mean(x, axis=(1, 2)), classifier_init)


VARIANTS = {
    name: Variant(ResNet, 224, {"stage_sizes": stage_sizes, "bottleneck": bottleneck})
    for name, stage_sizes, bottleneck in (
        ("resnet18", (2, 2, 2, 2), False),
        ("resnet34", (3, 4, 6, 3), False),
        ("resnet50", (3, 4, 6, 3), True),
        ("resnet101", (3, 4, 23, 3), True),
        ("resnet152", (3, 8, 36, 3), True),
    )
}
