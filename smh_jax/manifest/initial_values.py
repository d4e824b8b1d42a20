"""Statistics of what a model's own initializers give, measured by drawing from them.

The paper scales each layer to the standard deviation of its initializer and matches whether the
distribution is bounded (section 3.3). Both are read off samples, so any initializer will do.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal

Initializer = Callable[[jax.Array], jax.Array]

# At least this many values are drawn of each random tensor: a relative standard error of the
# measured deviation of 1 / sqrt(2 * 2**17) = 0.2% for a normal distribution.
MIN_SAMPLES = 2**17
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
            equals the mean at every draw) or 'fixed' (the same unequal values at every draw).
    """

    mean: float
    stddev: float
    distribution: str


UNKNOWN = InitialValues(math.nan, math.nan, "unknown")


_measured: dict[str, InitialValues] = {}


def measure(initializer: Initializer) -> InitialValues:
    """Measures the values that an initializer, a function of the key alone, gives its tensor."""
    traced = jax.make_jaxpr(initializer)(jax.random.key(0))
    # Layers of one shape share their initializer's program; constants are not part of its text.
    program = None if traced.consts else str(traced)
    if program in _measured:
        return _measured[program]
    drawn = None
    if _depends_on_key(traced.jaxpr):
        drawn = _draw(initializer, math.prod(traced.out_avals[0].shape))
    if drawn is not None and drawn[:, 2].any():
        values = _random(drawn)
    else:
        values = _fixed(np.asarray(initializer(jax.random.key(0)), np.float64))
    if program is not None:
        _measured[program] = values
    return values


def _depends_on_key(jaxpr: Jaxpr) -> bool:
    """Whether any result of a program follows from its inputs."""
    reached = set(jaxpr.invars)
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in reached for v in equation.invars):
            reached.update(equation.outvars)
    return any(not isinstance(v, Literal) and v in reached for v in jaxpr.outvars)


def _fixed(values: np.ndarray) -> InitialValues:
    """Statistics of values that do not depend on the key."""
    if np.all(values == values.flat[0]):
        return InitialValues(float(values.flat[0]), 0.0, "constant")
    return InitialValues(float(np.mean(values)), float(np.std(values)), "fixed")


def _draw(initializer: Initializer, size: int) -> np.ndarray:
    """Moments over at least `MIN_SAMPLES` values of a tensor of `size` elements.

    Returns:
        [batches of draws, 4]: mean, variance, largest deviation from the mean, number of values.
    """

    def moments(keys: jax.Array) -> jax.Array:
        values = jax.vmap(initializer)(keys).astype(jnp.float32)
        mean = jnp.mean(values)
        # The deviations are taken from the mean: a mean of squares would cancel far from 0.
        largest = jnp.max(jnp.abs(values - mean))
        return jnp.stack([mean, jnp.var(values), largest, jnp.float32(values.size)])

    num_draws = max(2, math.ceil(MIN_SAMPLES / size))
    at_once = max(1, min(num_draws, _MAX_VALUES_AT_ONCE // size))
    batches = math.ceil(num_draws / at_once)
    # This generator compiles several times faster than the default one, and keys made by NumPy
    # need no program for each shape.
    data = np.random.default_rng(1).integers(2**32, size=(batches, at_once, 4), dtype=np.uint32)
    keys = jax.random.wrap_key_data(data, impl="rbg")
    return np.asarray(jax.jit(lambda keys: jax.lax.map(moments, keys))(keys), np.float64)


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
