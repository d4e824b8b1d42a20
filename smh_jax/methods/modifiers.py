"""Functions of generated weights of unit variance, applied before they are scaled."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

# Standard deviation of max(x, 0) of a standard normal x: sqrt(1/2 - 1/(2 pi)).
_RELU_STDDEV = math.sqrt(0.5 - 0.5 / math.pi)


def relu(weights: jax.Array) -> jax.Array:
    """No negative weights; divided so that normal weights of unit variance keep it."""
    return jax.nn.relu(weights) / _RELU_STDDEV


def sign(weights: jax.Array) -> jax.Array:
    """-1 or 1, with the gradient of the identity (straight-through, Bengio et al. 2013)."""
    return weights + jax.lax.stop_gradient(jnp.where(weights < 0, -1.0, 1.0) - weights)


BY_NAME: dict[str, Callable[[jax.Array], jax.Array]] = {
    "none": lambda weights: weights, "relu": relu, "sign": sign,
}  # fmt: skip
