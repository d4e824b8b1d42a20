"""The training loss: cross-entropy or divergence from a teacher, and weight decay as a penalty."""

import re

import jax
import jax.numpy as jnp
import optax

from smh_jax.config import OptimizerConfig
from smh_jax.manifest import Manifest, Params, Tensor
from smh_jax.methods import Method, Variables, squared_norm


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float) -> jax.Array:
    """Per-example cross-entropy [batch] in nats, of logits [batch, classes], labels [batch]."""
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing))


def softened_divergence(logits: jax.Array, teacher: jax.Array, temperature: float) -> jax.Array:
    """`T^2 KL(teacher / T || student / T)` [...] in nats, of logits [..., classes].

    The factor keeps the gradient's magnitude the same at every temperature (Hinton, Vinyals and
    Dean 2015, arXiv:1503.02531, section 2.1).
    """
    student = jax.nn.log_softmax(logits / temperature)
    target = jax.nn.log_softmax(teacher / temperature)
    return jnp.square(temperature) * optax.losses.kl_divergence_with_log_targets(student, target)


def regularization(
    variables: Variables, params: Params, method: Method, config: OptimizerConfig
) -> jax.Array:
    """What is added to the loss: the method's own penalty, and weight decay that is not decoupled.

    Args:
        variables: of the method.
        params: the weights that the method generates from them.
        method: with the manifest.
        config: `weight_decay` and what it is of.
    """
    penalty = method.penalty(variables)
    if not config.weight_decay or config.name == "adamw":
        return penalty
    return penalty + decay(variables, params, method, config)


def decay(
    variables: Variables, params: Params, method: Method, config: OptimizerConfig
) -> jax.Array:
    """The weight decay as a penalty; for the arguments see `regularization`."""
    return config.weight_decay * half_squared_norm(
        method, variables, params, config.weight_decay_on, config.weight_decay_exclude
    )


def half_squared_norm(
    method: Method, variables: Variables, params: Params, decay_on: str, exclude: str = ""
) -> jax.Array:
    """Half the squared norm of what weight decay shrinks; its gradient is the decayed values.

    Args:
        method: whose manifest knows the batch norm tensors. They are never decayed.
        variables: of the method.
        params: the weights that the method generates from them.
        decay_on: 'variables' takes the pools and stored tensors, 'weights' the tensors of `params`,
            whose gradient goes to these, too. Scales are not decayed: it would shrink whole layers.
        exclude: regular expression of names of tensors that are not decayed; '' excludes none.
    """
    names = [tensor.name for tensor in decayed_tensors(method.manifest, decay_on, exclude)]
    if decay_on == "weights":
        return 0.5 * method.squared_norm(variables, params, names)
    stored = [variables["stored"][name] for name in names]
    return 0.5 * squared_norm([*jax.tree.leaves(variables.get("pools", {})), *stored])


def decayed_tensors(manifest: Manifest, decay_on: str, exclude: str) -> list[Tensor]:
    """The tensors that weight decay shrinks as they are, besides the pools; see above.

    Raises:
        ValueError: if `exclude` is no regular expression, or excludes nothing.
    """
    tensors = manifest.tensors if decay_on == "weights" else manifest.stored
    tensors = [tensor for tensor in tensors if tensor.layer != "batch_norm"]
    if not exclude:
        return tensors
    field = f"optimizer.weight_decay_exclude={exclude!r}"
    try:
        pattern = re.compile(exclude)
    except re.error as error:
        raise ValueError(f"{field} is not a regular expression: {error}") from error
    kept = [tensor for tensor in tensors if not pattern.search(tensor.name)]
    if len(kept) == len(tensors):
        raise ValueError(
            f"{field} matches none of the {len(tensors)} tensors that weight decay on {decay_on} "
            f"would shrink, such as {', '.join(t.name for t in tensors[:3]) or 'none at all'}"
        )
    return kept
