"""Statistics of what a model's own initializers give, measured on samples of them.

The paper scales each layer to the standard deviation of its initializer and matches whether the
distribution is bounded (section 3.3). Both are read off samples, so any initializer will do.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from smh_jax.manifest.init_program import GENERATOR, Initializer, initializers

# At least this many values are drawn of each random tensor: a relative standard error of the
# measured deviation of 1 / sqrt(2 * 2**17) = 0.2% for a normal distribution.
_MIN_SAMPLES = 2**17
# A batch of draws holds at most this many values, to bound memory.
_MAX_VALUES_AT_ONCE = 2**23

# Largest |x| / stddev of a uniform distribution and of a normal one truncated at two deviations.
_UNIFORM_RANGE = math.sqrt(3.0)
_TRUNCATED_RANGE = 2.0 / 0.8796256610342398
_RANGE_TOLERANCE = 1.02


@dataclasses.dataclass(frozen=True)
class InitialValues:
    """Of one tensor, over its elements and over draws of the initializer.

    Attributes:
        mean: of the values.
        stddev: their standard deviation.
        distribution: 'normal' (unbounded), 'truncated_normal', 'uniform', 'constant' (every element
            equals the mean at every draw), 'fixed' (the same unequal values at every draw) or
            'unknown' (not measured).
    """

    mean: float
    stddev: float
    distribution: str


UNKNOWN = InitialValues(math.nan, math.nan, "unknown")
# Of values that have no place on the real line: finite, so that equal manifests compare equal.
UNMEASURABLE = InitialValues(0.0, 0.0, "unknown")


def measure(program: ClosedJaxpr) -> list[InitialValues]:
    """Statistics of each output of a model's `init`, as `init_program.trace` gives it."""
    measured: dict[Any, InitialValues] = {}
    statistics = []
    for index, initializer in enumerate(initializers(program)):
        # Layers of one shape share their initializer's text; constants are not part of it.
        key = index if initializer.constants else str(initializer.jaxpr)
        if key not in measured:
            measured[key] = _measure(initializer)
        statistics.append(measured[key])
    return statistics


def of_values(values: Any) -> InitialValues:
    """Statistics of one draw that is given, taken for all that the initializer could draw."""
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return UNMEASURABLE
    if values.size == 0:
        return InitialValues(0.0, 0.0, "constant")
    values = np.asarray(values, np.float64)
    mean = np.mean(values)
    largest = np.max(np.abs(values - mean))
    if largest == 0:
        return InitialValues(float(mean), 0.0, "constant")
    return _random(np.array([[mean, np.var(values), largest, values.size]]))


def _measure(initializer: Initializer) -> InitialValues:
    if not jnp.issubdtype(initializer.aval.dtype, jnp.floating):
        return UNMEASURABLE
    if initializer.aval.size == 0:
        return InitialValues(0.0, 0.0, "constant")
    if initializer.is_random:
        sample = initializer.sample(_MIN_SAMPLES)
        drawn = _draw(initializer) if sample is None else _moments(sample)[jnp.newaxis]
        if drawn[:, 2].any():
            return _random(np.asarray(drawn, np.float64))
    values = initializer.sample(1)
    if values is None:
        values = initializer.draw(jax.random.key(0, impl=GENERATOR))
    values = np.asarray(values, np.float64)
    if np.all(values == values.flat[0]):
        return InitialValues(float(values.flat[0]), 0.0, "constant")
    return InitialValues(float(np.mean(values)), float(np.std(values)), "fixed")


def _moments(values: jax.Array) -> jax.Array:
    """Mean, variance, largest deviation from the mean, and number of values, [4]."""
    values = values.astype(jnp.float32)
    mean = jnp.mean(values)
    # The deviations are taken from the mean: a mean of squares would cancel far from 0.
    largest = jnp.max(jnp.abs(values - mean))
    return jnp.stack([mean, jnp.var(values), largest, jnp.float32(values.size)])


def _draw(initializer: Initializer) -> jax.Array:
    """Moments of batches of draws, [batches, 4], over at least `_MIN_SAMPLES` values."""
    size = initializer.aval.size
    num_draws = max(2, math.ceil(_MIN_SAMPLES / size))
    at_once = max(1, min(num_draws, _MAX_VALUES_AT_ONCE // size))
    batches = math.ceil(num_draws / at_once)
    # Keys made by NumPy need no program for each shape.
    data = np.random.default_rng(1).integers(2**32, size=(batches, at_once, 4), dtype=np.uint32)
    keys = jax.random.wrap_key_data(data, impl=GENERATOR)

    def moments(keys: jax.Array) -> jax.Array:
        return _moments(jax.vmap(initializer.draw)(keys))

    return jax.jit(lambda keys: jax.lax.map(moments, keys))(keys)


def _random(batches: np.ndarray) -> InitialValues:
    """Statistics of random values, from moments as `_draw` gives them."""
    means, variances, deviations, counts = batches.T
    mean = float(np.mean(means))
    stddev = float(np.sqrt(np.mean(variances) + np.var(means)))
    largest = float(deviations.max()) / stddev
    if largest <= _UNIFORM_RANGE * _RANGE_TOLERANCE:
        distribution = "uniform"
    elif largest <= _TRUNCATED_RANGE * _RANGE_TOLERANCE:
        distribution = "truncated_normal"
    else:
        distribution = "normal"
    # A mean within its standard error (of a zero-mean initializer) is 0.
    if abs(mean) < 5 * stddev / math.sqrt(float(counts.sum())):
        mean = 0.0
    return InitialValues(mean, stddev, distribution)
