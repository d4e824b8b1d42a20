"""Keys of random numbers, one stream for each purpose."""

import zlib

import jax

# `fold_in(key, i)` equals `split(key, n)[i]`: purposes stay clear of the indices of steps, devices
# and splits, which are all smaller.
_FIRST_PURPOSE = 2**31


def purpose_key(key: jax.Array, purpose: str) -> jax.Array:
    """The key of one purpose's own stream of random numbers.

    Args:
        key: shared by all purposes, such as `jax.random.key(seed)`.
        purpose: what is drawn, such as 'pools'. Equal names give equal keys on every machine.
    """
    return jax.random.fold_in(key, _FIRST_PURPOSE | zlib.crc32(purpose.encode()))
