"""Streams of random numbers."""

import jax
import numpy as np

from smh_jax.config.randomness import purpose_key


def test_no_purpose_shares_its_key_with_a_step_a_split_or_another_purpose():
    key = jax.random.key(0)
    indices = jax.vmap(lambda i: jax.random.key_data(jax.random.fold_in(key, i)))(np.arange(1000))
    # Without a purpose, the keys of steps are those of a split.
    np.testing.assert_array_equal(indices, jax.random.key_data(jax.random.split(key, 1000)))
    taken = {tuple(data) for data in np.asarray(indices)}
    for purpose in ("pools", "stored", "dropout", "order", ""):
        data = tuple(np.asarray(jax.random.key_data(purpose_key(key, purpose))))
        assert data not in taken
        taken.add(data)
    # The same on every machine: a resumed run draws what the interrupted one would have drawn.
    data = np.asarray(jax.random.key_data(purpose_key(key, "pools")))
    assert data.tolist() == [3696424417, 2239281333]
