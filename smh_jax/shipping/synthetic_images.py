"""Images that are made from what the batch norms of a trained model know of those they have seen.

Haroush et al. 2020, The knowledge within: methods for data-free model compression,
arXiv:1912.01274.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from smh_jax.manifest import Params
from smh_jax.shipping.artifact import Artifact
from smh_jax.training import forward

# Mean and variance of each feature, by the path of the batch norm.
Moments = dict[tuple[str, ...], tuple[jax.Array, jax.Array]]

_RATE = 0.1
# Added to variances, as batch norm does: a feature may be 0 for all images.
EPSILON = 1e-5


def record_moments(apply: Callable[[], Any]) -> tuple[Any, Moments]:
    """What a function returns, and the moments of what each `nn.BatchNorm` in it is given.

    Of one that is called several times, the averages over calls.
    """
    calls: dict[tuple[str, ...], list[tuple[jax.Array, jax.Array]]] = {}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        norm = context.module
        if isinstance(norm, nn.BatchNorm) and context.method_name == "__call__":
            x = jnp.asarray(args[0] if args else kwargs["x"], jnp.float32)
            features = {axis % x.ndim for axis in np.atleast_1d(norm.axis)}
            axes = tuple(axis for axis in range(x.ndim) if axis not in features)
            calls.setdefault(norm.path, []).append((jnp.mean(x, axes), jnp.var(x, axes)))
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        result = apply()
    return result, {path: average(moments) for path, moments in calls.items()}


def statistics_loss(moments: Moments, model_state: forward.ModelState) -> jax.Array:
    """How far moments are from the running ones: 0 where they are equal.

    The Kullback-Leibler divergence of the normal distributions, averaged over features and summed
    over batch norms.
    """
    total = jnp.float32(0)
    running = flax.traverse_util.flatten_dict(model_state["batch_stats"])
    for path, (mean, var) in moments.items():
        var, running_var = var + EPSILON, running[*path, "var"] + EPSILON
        shift = jnp.square(mean - running[*path, "mean"])
        total += jnp.mean((running_var + shift) / var - 1 + jnp.log(var / running_var)) / 2
    return total


def synthetic_images(
    artifact: Artifact, key: jax.Array, batch: int, steps: int, first_class: int = 0
) -> jax.Array:
    """Images [batch, height, width, channels], preprocessed, made from batch norm's statistics.

    They start as noise and descend on `statistics_loss` and the cross-entropy of labels, which are
    the classes from `first_class` on, over and over, by Adam; pixels stay within the range of real
    ones.
    """
    module, state = artifact.module, dict(artifact.model_state)
    pixels = artifact.preprocessing
    low, high = (
        jnp.asarray(pixels.normalize(np.full((1, *pixels.image_shape), value, np.uint8)))
        for value in (0, 255)
    )
    labels = (first_class + jnp.arange(batch)) % artifact.model.num_classes
    optimizer = optax.adam(optax.cosine_decay_schedule(_RATE, steps))

    def loss(images: jax.Array, params: Params) -> jax.Array:
        logits, moments = record_moments(
            lambda: forward.logits_of_params(module, params, state, images)
        )
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return statistics_loss(moments, state) + jnp.mean(cross_entropy)

    @jax.jit
    def step(images: jax.Array, adam: Any, params: Params) -> tuple[jax.Array, Any]:
        update, adam = optimizer.update(jax.grad(loss)(images, params), adam)
        return jnp.clip(images + update, low, high), adam

    images = jax.random.normal(key, (batch, *pixels.image_shape))
    adam = optimizer.init(images)
    for _ in range(steps):
        images, adam = step(images, adam, artifact.params)
    return images


def average(trees: Sequence[Any]) -> Any:
    """Leaf by leaf."""
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)
