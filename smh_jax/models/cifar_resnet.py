"""The ResNets of 6n+2 layers for small images (He et al. 2016, arXiv:1512.03385, section 4.2)."""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import layers
from smh_jax.models.base import ImageModel
from smh_jax.models.variant import Variant

STAGE_WIDTHS = (16, 32, 64)
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and an option-A shortcut: subsampled, padded with zero channels."""

    filters: int
    stride: int
    norm: layers.ModuleDef
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, ceil(h / stride), ceil(w / stride), filters]."""

        def conv(x: jax.Array, stride: int, name: str) -> jax.Array:
            # Padding 1 on each side, as in the original: SAME would be asymmetric at stride 2.
            return nn.Conv(
                self.filters,
                (3, 3),
                strides=stride,
                padding=1,
                use_bias=False,
                kernel_init=he_normal,
                dtype=self.dtype,
                name=name,
            )(x)

        shortcut = x[:, :: self.stride, :: self.stride, :]
        new_channels = self.filters - x.shape[-1]
        if new_channels:
            before = new_channels // 2
            shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (before, new_channels - before)))
        y = conv(x, self.stride, "conv1")
        y = nn.relu(self.norm(name="bn1")(y))
        y = conv(y, 1, "conv2")
        y = self.norm(name="bn2")(y)
        return nn.relu(y + shortcut)


class CifarResNet(ImageModel, kw_only=True):
    """ResNet of `6n + 2` layers with widths 16, 32 and 64 for small images of at least 4x4.

    Attributes (besides those of `ImageModel`):
        depth: total layers, `6n + 2`.
        width_multiplier: multiplies every width.
    """

    depth: int
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Logits [batch, num_classes] in float32 for images [batch, height, width, channels].

        Raises:
            ValueError: for images smaller than 4 pixels, or a width that leaves no channel.
        """
        norm = self.norm(train)
        x = layers.model_input(images, self.input_resolution, total_stride=4)
        widths = [layers.scale_width(width, self.width_multiplier) for width in STAGE_WIDTHS]
        x = nn.Conv(
            widths[0],
            (3, 3),
            padding=1,
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
            name="conv",
        )(x)
        x = nn.relu(norm(name="bn")(x))
        for stage, width in enumerate(widths):
            for block in range((self.depth - 2) // 6):
                x = BasicBlock(
                    width,
                    stride=2 if stage > 0 and block == 0 else 1,
                    norm=norm,
                    dtype=self.dtype,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dense(self.num_classes, kernel_init=he_normal, dtype=self.dtype, name="classifier")(
            x
        )
        return x.astype(jnp.float32)


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
