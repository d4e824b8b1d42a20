"""The paper's plain baseline: the same model with fewer channels in every layer, at a target size.

python -c "from smh_jax.models.width_multiplier import *; print(solve('cifar_resnet32', 47_000))"
"""

import bisect
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax

from smh_jax import models
from smh_jax.manifest import Manifest

# Multipliers are considered in steps of 1 / _RESOLUTION: finer than one channel in 4096.
_RESOLUTION = 10_000


@dataclasses.dataclass(frozen=True)
class Solution:
    """A model's width.

    Attributes:
        width_multiplier: the option of the model.
        num_weights: trainable elements of the model with it.
    """

    width_multiplier: float
    num_weights: int


def solve(
    name: str,
    target_size: int,
    *,
    num_classes: int = 10,
    input_shape: tuple[int, ...] | jax.ShapeDtypeStruct = (1, 32, 32, 3),
    max_multiplier: float = 1.0,
    **options: Any,
) -> Solution:
    """Finds the multiplier whose total of trainable elements comes closest below a target.

    The total grows with the multiplier in steps, since channels are whole. Of the multipliers of
    four decimals, the last that fits is found by bisection, on shapes alone; of those of the same
    total, one of fewest decimals is given.

    Args:
        name: of `smh_jax.models.names()`.
        target_size: upper bound on the trainable elements.
        num_classes, options: of `smh_jax.models.create`.
        input_shape: of one batch, batch dimension included; shape and dtype of one of tokens.
        max_multiplier: the largest to consider.

    Raises:
        ValueError: for a target below the size of the narrowest model or above that of the widest
            considered (the message names both), and for what `smh_jax.models.create` refuses.
    """
    if "width_multiplier" in options:
        raise ValueError("width_multiplier is what is solved for: it cannot be given")
    if not 1 <= max_multiplier * _RESOLUTION < math.inf:
        raise ValueError(
            f"max_multiplier={max_multiplier} must be finite and at least {1 / _RESOLUTION}"
        )

    @functools.cache
    def size(multiplier: float) -> int:
        model = models.create(name, num_classes=num_classes, width_multiplier=multiplier, **options)
        manifest = Manifest.from_model(
            model, input_shape, measure=False, example_kwargs={"train": False}
        )
        return manifest.num_weights

    def size_or_zero(step: int) -> int:
        """The size at a multiple of the resolution; 0 where a layer has no channel left."""
        try:
            return size(step / _RESOLUTION) if step else 0
        except ValueError:
            return 0

    # What is wrong with the other arguments is told here: narrower, only the width can be wrong.
    largest = size(max_multiplier)
    if target_size == largest:
        return Solution(max_multiplier, largest)
    end = math.floor(max_multiplier * _RESOLUTION)
    best = 0
    if target_size < largest:
        best = _last(lambda step: size_or_zero(step) <= target_size, end)
    num_weights = size_or_zero(best)
    if not num_weights:
        narrowest = _last(lambda step: not size_or_zero(step), end) + 1
        raise ValueError(
            f"target_size={target_size} is impossible for {name}: widths up to {max_multiplier:g} "
            f"have between {size_or_zero(narrowest)} and {largest} weights"
        )
    for coarser in (1000, 100, 10):
        rounded = best // coarser * coarser
        if size_or_zero(rounded) == num_weights:
            best = rounded
            break
    return Solution(best / _RESOLUTION, num_weights)


def _last(holds: Callable[[int], bool], end: int) -> int:
    """The last number up to `end` for which `holds`, which is true of 0 and turns false once."""
    return bisect.bisect_left(range(1, end + 1), True, key=lambda step: not holds(step))
