"""The convolution of the models: XLA's, but where its CPU compiler has no fast one."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def conv(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    feature_group_count: int,
    **others: Any,
) -> jax.Array:
    """What Linen's `Conv` calls: `jax.lax.conv_general_dilated` of [batch, h, w, c], or its equal.

    A kernel [k, k, c, filters] that is larger than the image becomes a matrix product on CPU, where
    such a convolution takes tens of times as long (docs/speed.md).
    """
    sides, taps = images.shape[1:3], kernel.shape[:2]
    larger = any(tap > side for tap, side in zip(taps, sides, strict=True))
    if not larger or feature_group_count > 1 or jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(
            images, kernel, strides, padding, feature_group_count=feature_group_count, **others
        )
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(sides, taps, strides, padding)
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    # Of each place in the kernel the pixels that it meets, side by side. Indexing would be a gather
    # where the number of images is a symbol.
    ends = [size - tap for size, tap in zip(padded.shape[1:3], taps, strict=True)]
    met = [
        jax.lax.slice(
            padded,
            (0, row, column, 0),
            (padded.shape[0], row + ends[0] + 1, column + ends[1] + 1, padded.shape[3]),
            (1, *strides, 1),
        )
        for row, column in itertools.product(*map(range, taps))
    ]
    return jnp.concatenate(met, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
