"""The ResNets of 6n+2 layers for small images (He et al. 2016, arXiv:1512.03385, section 4.2)."""

import re
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import convolution, layers
from smh_jax.models.base import ConvNet, Variant, blocks

STAGE_WIDTHS = (16, 32, 64)
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# Padding 1 on each side, as in the original: SAME would be asymmetric at stride 2.
conv3x3 = partial(
    nn.Conv,
    kernel_size=(3, 3),
    padding=1,
    use_bias=False,
    kernel_init=he_normal,
    conv_general_dilated=convolution.conv,
)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and an option-A shortcut: subsampled, padded with zero channels."""

    filters: int
    stride: int
    norm: layers.ModuleDef
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, ceil(h / stride), ceil(w / stride), filters]."""
        conv = partial(conv3x3, self.filters, dtype=self.dtype)
        shortcut = x[:, :: self.stride, :: self.stride, :]
        new_channels = self.filters - x.shape[-1]
        if new_channels:
            before = new_channels // 2
            shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (before, new_channels - before)))
        y = conv(strides=self.stride, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = conv(name="conv2")(y)
        y = self.norm(name="bn2")(y)
        return nn.relu(y + shortcut)


class CifarResNet(ConvNet, kw_only=True):
    """ResNet of `6n + 2` layers with widths 16, 32 and 64 for small images of at least 4x4.

    Attributes (besides those of `ConvNet`):
        depth: total layers, `6n + 2`.
        width_multiplier: multiplies every width.
    """

    depth: int
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        norm = self.norm(train)
        x = layers.model_input(images, self.input_resolution, total_stride=4)
        widths = [layers.scale_width(width, self.width_multiplier) for width in STAGE_WIDTHS]
        x = conv3x3(widths[0], dtype=self.dtype, name="conv")(x)
        x = nn.relu(norm(name="bn")(x))
        for stage, stride, name in blocks([(self.depth - 2) // 6] * 3, (1, 2, 2)):
            x = BasicBlock(widths[stage], stride, norm, self.dtype, name=name)(x)
        return self.classify(jnp.mean(x, axis=(1, 2)), he_normal)


VARIANTS = {
    f"cifar_resnet{depth}": Variant(CifarResNet, 32, {"depth": depth})
    for depth in (8, 20, 32, 44, 56, 110)
}


def variant(name: str) -> Variant | None:
    """The variant of any depth `6n + 2` (`cifar_resnet14`); None if the name is another family's.

    Raises:
        ValueError: if the depth is not of the form 6n + 2.
    """
    match = re.fullmatch(r"cifar_resnet(\d+)", name)
    if match is None:
        return None
    depth = int(match[1])
    if depth < 8 or (depth - 2) % 6:
        below = max(8, (depth - 2) // 6 * 6 + 2)
        raise ValueError(
            f"model name={name!r}: depth {depth} is not 6n + 2; "
            f"the nearest are cifar_resnet{below} and cifar_resnet{below + 6}"
        )
    return Variant(CifarResNet, 32, {"depth": depth})
