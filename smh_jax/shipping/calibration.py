"""What rounding changed, re-estimated from a few images, which may be made without data.

Rounding the pools moves the activations away from the statistics that batch norm keeps. These are
estimated again on images, real ones or those of `synthetic_images`, and on real ones the scales of
the rounded rows are fitted to the logits before rounding.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import optax

from smh_jax import data
from smh_jax.config import DataConfig
from smh_jax.config.randomness import purpose_key
from smh_jax.manifest import Params
from smh_jax.methods.rounding import SMALL
from smh_jax.shipping.artifact import Artifact, ModelSpec, parse
from smh_jax.shipping.artifact.artifact import restored, small
from smh_jax.shipping.artifact.layout import is_quantized
from smh_jax.shipping.from_run import dataset_of
from smh_jax.shipping.synthetic_images import (
    EPSILON,
    Moments,
    average,
    record_moments,
    synthetic_images,
)
from smh_jax.training import forward

SOURCES = ("synthetic", "data")
BATCHES, BATCH_SIZE = 4, 256
_IMAGE_STEPS = 200
_SCALE_STEPS, _SCALE_RATE = 100, 0.003


def check(artifact: Artifact, precision: str) -> None:
    """Checks that there is something to calibrate.

    Raises:
        ValueError: if the artifact does not have one of this project's models, or one without batch
            norm; if its pools are rounded already, or would not be.
    """
    _ = artifact.module
    if "batch_stats" not in artifact.model_state:
        raise ValueError("calibration needs a model with batch norm, and this one has none")
    if not isinstance(artifact.model, ModelSpec) or artifact.preprocessing is None:
        raise ValueError("calibration needs a model of smh_jax.models, whose images are known")
    if artifact.precision != "float32":
        raise ValueError(
            f"the pools are stored as {artifact.precision} already; calibration compares with what "
            "they were: start from a float32 artifact"
        )
    if artifact.at(precision) is artifact:
        raise ValueError(
            f"precision={precision!r} rounds nothing that could be calibrated; "
            "choose one that does, such as int4"
        )


def moments_over(
    artifact: Artifact, batches: Sequence[jax.Array], model_state: forward.ModelState
) -> Moments:
    """Mean and variance of each batch norm's input over all batches, each seen as in training."""
    module = artifact.module

    @jax.jit
    def moments_of(params: Params, images: jax.Array, key: jax.Array) -> Moments:
        return record_moments(
            lambda: forward.training_logits(module, params, model_state, images, key)
        )[1]

    keys = jax.random.split(purpose_key(jax.random.key(0), "calibration"), len(batches))
    moments = [moments_of(artifact.params, *batch) for batch in zip(batches, keys, strict=True)]
    total = {}
    for path in moments[0]:
        mean, var = average([batch[path] for batch in moments])
        # The variance of all is that within batches and that of their means.
        total[path] = mean, var + average([jnp.square(batch[path][0] - mean) for batch in moments])
    return total


def with_statistics(
    rounded: Artifact, artifact: Artifact, batches: Sequence[jax.Array]
) -> Artifact:
    """The rounded artifact whose batch norms know what rounding changed.

    Their means are shifted and their variances multiplied by what separates the moments of the
    rounded network from those of the artifact before it, on the same images: in this, images that
    are no real ones cancel to first order.
    """
    state = dict(artifact.model_state)
    before, after = (moments_over(each, batches, state) for each in (artifact, rounded))
    flat = flax.traverse_util.flatten_dict(state)
    for path, (mean, var) in after.items():
        mean_before, var_before = before[path]
        flat["batch_stats", *path, "mean"] += mean - mean_before
        flat["batch_stats", *path, "var"] *= (var + EPSILON) / (var_before + EPSILON)
    return dataclasses.replace(
        rounded, model_state=flax.traverse_util.unflatten_dict(flat), accuracy={}
    )


def fitted_scales(
    rounded: Artifact, batches: Sequence[jax.Array], targets: Sequence[jax.Array], steps: int
) -> Artifact:
    """The artifact whose rows' scales bring its logits closest to the targets, its integers kept.

    Adam on the Kullback-Leibler divergence of the classes' probabilities, a batch a step.
    """
    state = dict(rounded.model_state)
    optimizer = optax.adam(optax.cosine_decay_schedule(_SCALE_RATE, steps))

    def stored(factors: Sequence[jax.Array]) -> Mapping[str, Any]:
        """With the scales times the exponentials of factors."""
        factor = iter(factors)
        return jax.tree.map(
            lambda q: q.replace(scales=q.scales * jnp.exp(next(factor))) if _is_pool(q) else q,
            rounded.stored,
            is_leaf=is_quantized,
        )

    def loss(factors: Sequence[jax.Array], images: jax.Array, target: jax.Array) -> jax.Array:
        variables = rounded.restore(stored(factors))
        logits = forward.logits(rounded.module, rounded.method, variables, state, images)
        divergence = optax.kl_divergence(jax.nn.log_softmax(logits), jax.nn.softmax(target))
        return jnp.mean(divergence)

    @jax.jit
    def step(factors: Any, adam: Any, *batch: jax.Array) -> tuple[Any, Any]:
        update, adam = optimizer.update(jax.grad(loss)(factors, *batch), adam)
        return optax.apply_updates(factors, update), adam

    leaves = jax.tree.leaves(rounded.stored, is_leaf=is_quantized)
    factors = [jnp.zeros_like(leaf.scales) for leaf in leaves if _is_pool(leaf)]
    adam = optimizer.init(factors)
    for number in range(steps):
        factors, adam = step(
            factors, adam, batches[number % len(batches)], targets[number % len(batches)]
        )
    return dataclasses.replace(rounded, stored=jax.jit(stored)(factors), accuracy={})


def _is_pool(leaf: Any) -> bool:
    return is_quantized(leaf) and leaf.precision not in SMALL


def as_in_a_file(artifact: Artifact) -> Artifact:
    """The artifact with what a file holds in fewer bits: of a coded one, all but the integers."""
    if parse(artifact.precision)[0] != "coded":
        return artifact

    def store(leaf: Any) -> Any:
        if not is_quantized(leaf):
            return leaf
        return leaf.replace(scales=leaf.scales.astype(jnp.bfloat16).astype(jnp.float32))

    stored = jax.tree.map(store, artifact.stored, is_leaf=is_quantized)
    state = dict(artifact.model_state)
    return dataclasses.replace(artifact, stored=stored, model_state=restored(small(state), state))


def training_images(config: DataConfig) -> list[jax.Array]:
    """The first images of the training split, preprocessed as for evaluation."""
    dataset = data.describe(
        config.name, config.data_dir, config.image_size, config.preprocessing, config.transform
    )
    split = data.load(dataset, config.train_split, config.data_dir)
    batch_size = min(BATCH_SIZE, split.num_examples)
    batches = data.eval_batches(
        split, dataset.normalization, batch_size=batch_size, skip_corrupt=config.skip_corrupt
    )
    count = min(BATCHES, split.num_examples // batch_size)
    return [jnp.asarray(batch["image"]) for batch in itertools.islice(batches, count)]


def images_from(source: str, artifact: Artifact, data_dir: str | None = None) -> list[jax.Array]:
    """Batches of images for an artifact.

    Args:
        source: 'data', of the training split that the artifact names, or 'synthetic'.
        artifact: that they are for.
        data_dir: of the data, if not where the run had them.

    Raises:
        ValueError: if the artifact does not say which data it was trained on.
    """
    if source == "data":
        return training_images(dataset_of(artifact, data_dir))
    keys = jax.random.split(purpose_key(jax.random.key(0), "synthetic images"), BATCHES)
    # More classes than a batch has images are spread over the batches.
    stride = BATCH_SIZE if artifact.model.num_classes > BATCH_SIZE else 0
    return [
        synthetic_images(artifact, key, BATCH_SIZE, _IMAGE_STEPS, first_class=index * stride)
        for index, key in enumerate(keys)
    ]


def calibrate(
    artifact: Artifact, precision: str, source: str, data_dir: str | None = None
) -> Artifact:
    """The artifact at a precision, calibrated on `images_from` a source.

    Of data, the scales are fitted, too: on synthetic images, unlike those that will be classified,
    that lost accuracy. The provenance says what was done. For the errors see `check`.
    """
    check(artifact, precision)
    batches = images_from(source, artifact, data_dir)
    calibrated = with_statistics(artifact.at(precision), artifact, batches)
    if source == "data":
        targets = [artifact.logits(images) for images in batches]
        calibrated = fitted_scales(calibrated, batches, targets, _SCALE_STEPS)
    calibrated = as_in_a_file(calibrated)
    done = {"images": source, "count": sum(map(len, batches))}
    provenance = {**artifact.provenance, "calibration": done}
    return dataclasses.replace(calibrated, provenance=provenance)
