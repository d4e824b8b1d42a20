"""Multiply-adds of a Flax model, counted in its program: no weights, no hand-made tables.

The convention is that of the papers whose "FLOPS" they are (MobileNets, EfficientNet). One
multiply-add is one product summed into an output of a convolution or of a matrix product (a dense
layer). Counted: every tap of every kernel at every output, those on padding too. Not counted:
biases, batch norm (folded into the convolutions when serving), activations, pooling, the products
with squeeze-excite gates and additions of shortcuts, and the up-sampling of the input.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core

from smh_jax.models import layers


def count_multiply_adds(
    model: nn.Module, input_shape: tuple[int, ...] | jax.ShapeDtypeStruct
) -> int:
    """Multiply-adds of a forward pass in evaluation mode.

    Args:
        model: called with `(images, train)`.
        input_shape: [batch, height, width, channels], or shape and dtype of other inputs; the count
            is that of the whole batch.

    Raises:
        ValueError: if the model multiplies in a loop of unknown length.
    """
    # Initialization runs the forward pass, too, and its initializers multiply no matrices.
    init = functools.partial(model.init, train=False)
    example = input_shape
    if isinstance(example, tuple):
        example = jax.ShapeDtypeStruct(example, jnp.float32)
    return _count(jax.make_jaxpr(init)(jax.random.key(0), example).jaxpr)


def matching_resolution(
    model: nn.Module, reference: nn.Module, resolution: int, *, multiple_of: int = 1
) -> int:
    """The input resolution at which a model costs what the reference does at its own.

    The paper's stronger baseline (section 4.3): a network made smaller by a width multiplier sees
    its images up-sampled until it has the multiply-adds of the full network again.

    Args:
        model: the smaller network, one of ours (its `input_resolution` is not looked at).
        reference: the full network.
        resolution: side in pixels of the images, for which the reference is counted.
        multiple_of: the answer is a multiple of this.

    Returns:
        The side whose multiply-adds are the nearest to the reference's; of equally near ones, the
        smaller. It is meant for the model's `input_resolution`.

    Raises:
        ValueError: if the model at `resolution` costs more than the reference already.
    """
    model = model.clone(input_resolution=0)
    target = count_multiply_adds(reference, (1, resolution, resolution, 3))

    @functools.cache
    def excess(multiple: int) -> int:
        side = multiple * multiple_of
        return count_multiply_adds(model, (1, side, side, 3)) - target

    low = -(-resolution // multiple_of)
    if excess(low) > 0:
        raise ValueError(
            f"the model has {excess(low) + target} multiply-adds at {low * multiple_of} pixels, "
            f"more than the reference's {target} at resolution={resolution}: "
            "only a smaller model can be matched by up-sampling"
        )
    # The count never falls as the side grows, about with its square, by which the first guess is
    # made: from there in longer and longer steps to both sides of the target, then by bisection.
    high = max(low + 1, round(low * math.sqrt(target / (excess(low) + target))))
    stride = 1
    while excess(high) <= 0:
        low, high, stride = high, high + stride, 2 * stride
    stride = 1
    while high - low > stride and excess(high - stride) > 0:
        high, stride = high - stride, 2 * stride
    low = max(low, high - stride)
    while high - low > 1:
        middle = (low + high) // 2
        if excess(middle) > 0:
            high = middle
        else:
            low = middle
    return multiple_of * min((low, high), key=lambda multiple: abs(excess(multiple)))


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: core.JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        output_channels = kernel[params["dimension_numbers"].rhs_spec[0]]
        return equation.outvars[0].aval.size * math.prod(kernel) // output_channels
    if name == "dot_general":
        left = equation.invars[0].aval.shape
        (contracted, _), _ = params["dimension_numbers"]
        return equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if params.get("name") == layers.upsample_input.__name__:
        return 0
    counts = [_count(jaxpr) for jaxpr in core.jaxprs_in_params(params)]
    if name == "cond":
        return max(counts)
    if name == "while" and any(counts):
        raise ValueError("a while loop multiplies: how often is not in the program")
    return sum(counts) * params.get("length", 1) if name == "scan" else sum(counts)
