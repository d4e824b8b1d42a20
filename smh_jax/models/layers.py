"""What the model families share: normalisation, initializers and channel arithmetic."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

ModuleDef = Callable[..., nn.Module]


def batch_norm(
    train: bool, *, momentum: float, epsilon: float, axis_name: str | None, dtype: Any
) -> ModuleDef:
    """A constructor of batch norms: batch statistics when training, running ones otherwise.

    Args:
        train: whether the statistics are those of the batch.
        momentum: of the running averages, in Flax's sense (0.9 keeps nine tenths).
        epsilon: added to the variance.
        axis_name: mapped axis over which the batch statistics are averaged; None keeps them local.
        dtype: of the computation; the statistics and the affine parameters stay float32.
    """
    return partial(
        nn.BatchNorm,
        use_running_average=not train,
        momentum=momentum,
        epsilon=epsilon,
        axis_name=axis_name,
        dtype=dtype,
    )


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
