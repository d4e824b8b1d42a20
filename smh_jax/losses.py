"""The training loss: cross-entropy with label smoothing, and weight decay as a penalty."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import optax

from smh_jax.manifest import Manifest, Params
from smh_jax.methods import Variables


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float) -> jax.Array:
    """Per-example cross-entropy [batch] in nats, of logits [batch, classes], labels [batch]."""
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing))


def half_squared_norm(
    manifest: Manifest, variables: Variables, params: Params, decay_on: str
) -> jax.Array:
    """Half the squared norm of what weight decay shrinks; its gradient is the decayed values.

    Args:
        manifest: of the method, which knows the batch norm tensors. They are never decayed.
        variables: of the method.
        params: what the method made of them.
        decay_on: 'variables' takes the pools and stored tensors, but no scales, which would shrink
            whole layers; 'weights' takes the tensors of `params`.
    """
    decayed: Iterable[jax.Array]
    if decay_on == "weights":
        leaves = manifest.leaves(params)
        decayed = [leaves[t.name] for t in manifest.tensors if t.layer != "batch_norm"]
    else:
        stored = [variables["stored"][t.name] for t in manifest.stored if t.layer != "batch_norm"]
        decayed = [*jax.tree.leaves(variables.get("pools", {})), *stored]
    return 0.5 * sum((jnp.sum(jnp.square(x)) for x in decayed), jnp.float32(0))
