"""How many bits an entropy coder needs for rounded pools, as a number with a gradient.

The probability model of a pool is the histogram of its own integers, which is the one of fewest
bits (Oktay et al. 2019, section 3.2, learn one by gradient). At this minimum the number of bits
does not change with the model, so that the gradient needs none of it: an element between two
integers is drawn to the one of fewer bits, by their difference, and one on an integer to none.
"""

import jax
import jax.numpy as jnp

from smh_jax.methods.rounding import LARGEST

# Of the table of frequencies in a file, for each integer of the range that occurs, and its ends.
BITS_PER_BIN = 8
TABLE_BITS = 16
# An integer that does not occur costs what half an element would.
_SMOOTHING = 0.5
# A pool of zeros has no root mean square to divide by.
_TINY = 1e-30


def coded_bits(pool: jax.Array, step: float) -> jax.Array:
    """Bits of a pool's integers at a step, and of their table; a scalar.

    Args:
        pool: of any shape.
        step: between integers, in root mean squares of the pool.
    """
    # Through the root mean square too: bits depend on a pool's shape, not on its size.
    scale = step * jnp.sqrt(jnp.mean(jnp.square(pool)) + _TINY)
    place = (pool / scale).ravel()
    integers = jnp.clip(jnp.round(jax.lax.stop_gradient(place)), -LARGEST, LARGEST)
    counts = jnp.zeros(2 * LARGEST + 1).at[integers.astype(jnp.int32) + LARGEST].add(1.0)
    total = pool.size
    bits = jnp.log2(total) - jnp.log2(jnp.maximum(counts, 1.0))
    occurring = jnp.nonzero(counts, size=counts.size, fill_value=-1)[0]
    bins = jnp.max(occurring) - occurring[0] + 1
    promised = jnp.sum(counts * bits) + TABLE_BITS + BITS_PER_BIN * bins
    # The same number, less itself, between the integers: for its gradient alone.
    smooth = jnp.log2(total) - jnp.log2(counts + _SMOOTHING)
    lower = jnp.clip(jnp.floor(place), -LARGEST, LARGEST - 1)
    index = jax.lax.stop_gradient(lower).astype(jnp.int32) + LARGEST
    # What lies on an integer, as a pruned 0 does, is drawn to neither side.
    slope = jnp.where(place == lower, 0.0, smooth[index + 1] - smooth[index])
    slope = jax.lax.stop_gradient(slope)
    drawn = jnp.sum(slope * place)
    return promised + drawn - jax.lax.stop_gradient(drawn)
