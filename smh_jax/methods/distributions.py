"""Distributions of initial values with mean 0 and standard deviation 1."""

import math

import jax

from smh_jax.config.names import check_choice

NAMES = ("normal", "truncated_normal", "uniform")

# Of a standard normal distribution truncated to [-2, 2]; as in `jax.nn.initializers`.
_TRUNCATED_STDDEV = 0.87962566103423978


def sample(name: str, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws float32 values of unit variance; a truncated normal is corrected after truncation.

    Raises:
        ValueError: for an unknown name.
    """
    check_choice("distribution", name, NAMES)
    if name == "normal":
        return jax.random.normal(key, shape)
    if name == "truncated_normal":
        return jax.random.truncated_normal(key, -2.0, 2.0, shape) / _TRUNCATED_STDDEV
    limit = math.sqrt(3.0)
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
