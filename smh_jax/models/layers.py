"""What the model families share: blocks, normalization, channel arithmetic and input checks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models.convolution import conv

ModuleDef = Callable[..., nn.Module]
Activation = Callable[[jax.Array], jax.Array]
Initializer = nn.initializers.Initializer


class ConvNorm(nn.Module):
    """A convolution without bias, batch norm and, if given, an activation.

    Attributes:
        filters: output channels; for a depthwise convolution, the input's.
        kernel_size: side of the square kernel.
        norm: constructor of the batch norm.
        kernel_init: of the kernel [kernel_size, kernel_size, in (1 if depthwise), filters].
        dtype: of the computation.
        stride: in both directions.
        padding: "SAME" (TensorFlow's: the odd pixel after the image), "SYMMETRIC" (PyTorch's: half
            the kernel on each side), or pixels on each side.
        depthwise: one filter per channel.
        activation: applied last, or None.
    """

    filters: int
    kernel_size: int
    norm: ModuleDef
    kernel_init: Initializer
    dtype: Any
    stride: int = 1
    padding: str | int = "SAME"
    depthwise: bool = False
    activation: Activation | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, ceil(h / stride), ceil(w / stride), filters]."""
        x = nn.Conv(
            self.filters,
            (self.kernel_size, self.kernel_size),
            strides=self.stride,
            padding=self.kernel_size // 2 if self.padding == "SYMMETRIC" else self.padding,
            feature_group_count=self.filters if self.depthwise else 1,
            use_bias=False,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            conv_general_dilated=conv,
            name="conv",
        )(x)
        x = self.norm(name="bn")(x)
        return x if self.activation is None else self.activation(x)


class SqueezeExcite(nn.Module):
    """Gates each channel by a two-layer network of the channels' means (Hu et al. 2018)."""

    squeeze_filters: int
    activation: Activation
    gate: Activation
    kernel_init: Initializer
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to the same shape."""
        conv = partial(nn.Conv, kernel_size=(1, 1), kernel_init=self.kernel_init, dtype=self.dtype)
        gate = jnp.mean(x, axis=(1, 2), keepdims=True)
        gate = self.activation(conv(self.squeeze_filters, name="reduce_conv")(gate))
        gate = self.gate(conv(x.shape[-1], name="expand_conv")(gate))
        return x * gate


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze-excite and linear projection.

    The block of MobileNetV2 (arXiv:1801.04381, section 3.3), V3 and EfficientNet. The expansion is
    left out where the input is as wide already, and the skip is there where shapes allow it.

    Attributes:
        filters: output channels.
        expanded_filters: channels of the depthwise convolution.
        kernel_size, stride, padding: of the depthwise convolution.
        activation: after the expansion and the depthwise convolution.
        norm: constructor of the batch norms.
        conv_init, depthwise_init: initializers of 1x1 and of depthwise kernels.
        dtype: of the computation.
        squeeze_excite: constructor of what gates the expanded channels, or None.
        stochastic_depth_rate: probability of dropping the block's branch, per example
            (Huang et al. 2016); what is kept is divided by one minus the rate.
    """

    filters: int
    expanded_filters: int
    kernel_size: int
    stride: int
    activation: Activation
    norm: ModuleDef
    conv_init: Initializer
    depthwise_init: Initializer
    dtype: Any
    padding: str = "SAME"
    squeeze_excite: ModuleDef | None = None
    stochastic_depth_rate: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, ceil(h / stride), ceil(w / stride), filters]."""
        conv = partial(ConvNorm, norm=self.norm, dtype=self.dtype)
        y = x
        if self.expanded_filters != x.shape[-1]:
            y = conv(
                self.expanded_filters,
                1,
                kernel_init=self.conv_init,
                activation=self.activation,
                name="expand",
            )(y)
        y = conv(
            self.expanded_filters,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            depthwise=True,
            kernel_init=self.depthwise_init,
            activation=self.activation,
            name="depthwise",
        )(y)
        if self.squeeze_excite is not None:
            y = self.squeeze_excite(name="squeeze_excite")(y)
        y = conv(self.filters, 1, kernel_init=self.conv_init, name="project")(y)
        if y.shape != x.shape:
            return y
        drop = nn.Dropout(
            self.stochastic_depth_rate, broadcast_dims=(1, 2, 3), name="stochastic_depth"
        )
        return x + drop(y, deterministic=not train)


def scale_width(width: int, multiplier: float) -> int:
    """`width * multiplier` rounded to the nearest whole number of channels.

    Raises:
        ValueError: where that leaves no channel.
    """
    channels = round(width * multiplier)
    if channels < 1:
        raise ValueError(
            f"width_multiplier={multiplier} leaves no channel of {width}; "
            f"the smallest that leaves one is about {0.5 / width:.3g}"
        )
    return channels


def make_divisible(width: float, multiplier: float = 1.0) -> int:
    """`width * multiplier` rounded to a multiple of 8 that is at least 8 and not 10% too small.

    The rule of the MobileNets (for squeeze-excite widths, too) and EfficientNet's `round_filters`.

    Raises:
        ValueError: for a multiplier that is not positive.
    """
    if not multiplier > 0:
        raise ValueError(
            f"width_multiplier={multiplier} leaves no channel of {width}; it must be above 0"
        )
    exact = width * multiplier
    channels = max(8, int(exact + 4) // 8 * 8)
    return channels + 8 if channels < 0.9 * exact else channels


def model_input(images: jax.Array, input_resolution: int, total_stride: int) -> jax.Array:
    """The images, up-sampled where that is asked for, once they are known to be large enough.

    Args:
        images: [batch, height, width, channels].
        input_resolution: side to which the images are up-sampled; 0 leaves them as they are.
        total_stride: product of the model's strides.

    Raises:
        ValueError: if `input_resolution` would shrink the images, or if a side is smaller than the
            total stride, where strides would act on maps of a single pixel.
    """
    height, width = images.shape[1:3]
    if input_resolution:
        if input_resolution < max(height, width):
            raise ValueError(
                f"input_resolution={input_resolution} would shrink the images of "
                f"{height}x{width}; it must be at least {max(height, width)}"
            )
        images = upsample_input(images, input_resolution)
    height, width = images.shape[1:3]
    if min(height, width) < total_stride:
        raise ValueError(
            f"images of {height}x{width} are too small for a total stride of {total_stride}; "
            f"each side must be at least {total_stride} "
            f"(larger images, or input_resolution={total_stride})"
        )
    return images


@partial(jax.jit, static_argnames="resolution")
def upsample_input(images: jax.Array, resolution: int) -> jax.Array:
    """Bilinear interpolation of [batch, height, width, c] to [batch, resolution, resolution, c].

    Jitted so that it appears under its own name in a program, where the counter of multiply-adds
    knows it by: it is not a part of the network.
    """
    batch, _, _, channels = images.shape
    return jax.image.resize(images, (batch, resolution, resolution, channels), "bilinear")
