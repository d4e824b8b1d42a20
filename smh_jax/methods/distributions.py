"""Distributions of initial values with mean 0 and standard deviation 1."""

import math

import jax

NAMES = ("normal", "truncated_normal", "uniform")

# Standard deviation of a standard normal distribution truncated to [-2, 2]:
# sqrt(1 - 4 pdf(2) / (cdf(2) - cdf(-2))). It keeps 0.7737 of the variance.
_TRUNCATED_STDDEV = math.sqrt(
    1.0 - 4.0 * math.exp(-2.0) / math.sqrt(2.0 * math.pi) / math.erf(math.sqrt(2.0))
)


def sample(name: str, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws float32 values of unit variance; a truncated normal is corrected after truncation.

    Raises:
        ValueError: for an unknown name.
    """
    if name == "normal":
        return jax.random.normal(key, shape)
    if name == "truncated_normal":
        return jax.random.truncated_normal(key, -2.0, 2.0, shape) / _TRUNCATED_STDDEV
    if name == "uniform":
        limit = math.sqrt(3.0)
        return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
    raise ValueError(f"distribution={name!r} must be one of {', '.join(NAMES)}")
