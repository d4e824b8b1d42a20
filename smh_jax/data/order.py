"""The order of examples: which of them a host reads at a step, as a function of the seed alone.

Example `p` of the endless stream of training examples is row `shuffle(p mod n)` of epoch `p div n`,
where the shuffle is a keyed permutation that needs no memory. So a run resumes at any step at once,
and what a step sees depends neither on how the run got there nor on the number of hosts.
"""

import tensorflow as tf


def share(batch_size: int, host: int, num_hosts: int) -> slice:
    """The contiguous share of each batch that is a host's."""
    return slice(host * batch_size // num_hosts, (host + 1) * batch_size // num_hosts)


def shuffled_rows(positions: tf.Tensor, num_examples: int, seed: int) -> tf.Tensor:
    """The rows of examples at positions of the stream, int64 [k] both."""
    epochs = positions // num_examples
    # The operation below tf.random.experimental.index_shuffle, which cannot take a seed for
    # each element; a batch can reach into the next epoch.
    return tf.raw_ops.RandomIndexShuffle(
        index=positions % num_examples,
        seed=tf.stack([tf.fill(tf.shape(epochs), tf.constant(seed, tf.int64)), epochs, epochs], 1),
        max_index=tf.constant(num_examples - 1, tf.int64),
        rounds=4,
    )
