"""Images without data, and what is estimated from images after rounding."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smh_jax
from smh_jax import Artifact, Manifest, methods
from smh_jax.shipping import calibration
from smh_jax.shipping.artifact import ModelSpec, Preprocessing
from smh_jax.shipping.synthetic_images import record_moments, statistics_loss, synthetic_images
from tests.small import few_quick

SHAPE = (8, 8, 1)
KEY = jax.random.key(0)


class TwoNorms(nn.Module):
    """A convolution and a dense layer, each with batch norm, and a classifier."""

    @nn.compact
    def __call__(self, images, train: bool):
        x = nn.Conv(4, (3, 3), name="conv")(images)
        x = nn.relu(nn.BatchNorm(not train, momentum=0.5, name="first")(x))
        x = nn.Dense(6, name="dense")(jnp.mean(x, axis=(1, 2)))
        x = nn.relu(nn.BatchNorm(not train, momentum=0.5, name="second")(x))
        return nn.Dense(3, name="classifier")(x)


class TwoNormsSpec(ModelSpec):
    """A `TwoNorms` in the place of a model of this project."""

    def create(self):
        return TwoNorms()


def images(count, seed=0):
    """Images whose pixels are correlated, as those of noise are not: some are brighter."""
    random = np.random.default_rng(seed)
    pixels = random.normal(size=(count, *SHAPE)) + random.normal(size=(count, 1, 1, 1))
    return jnp.asarray(pixels.clip(-2, 2), jnp.float32)


@pytest.fixture(scope="module")
def model():
    """An artifact whose batch norms know the statistics of `images`."""
    module = TwoNorms()
    manifest = Manifest.from_model(module, (1, *SHAPE))
    method = methods.create("smh", manifest, target_size=65)
    collections = module.init(KEY, jnp.zeros((1, *SHAPE)), False)
    variables = method.init(KEY, collections["params"])
    # Batch norm cancels it where one follows: logits that differ from image to image.
    variables["scales"] = 8 * variables["scales"]
    state = {"batch_stats": collections["batch_stats"]}
    untrained = Artifact(
        method=method,
        stored=variables,
        model_state=state,
        model=TwoNormsSpec("two_norms", 3),
        preprocessing=Preprocessing(SHAPE, mean=(0.5,), stddev=(0.25,)),
    )
    moments = calibration.moments_over(untrained, [images(128)], state)
    known = {name: dict(zip(("mean", "var"), moments[name,], strict=True)) for (name,) in moments}
    return dataclasses.replace(untrained, model_state={"batch_stats": known})


def loss_of(model, batch):
    """How far the statistics of a batch are from those that the model's batch norms know."""
    apply = functools.partial(model.module.apply, {"params": model.params, **model.model_state})
    _, moments = record_moments(lambda: apply(batch, False))
    return float(statistics_loss(moments, model.model_state))


@pytest.mark.slow
def test_synthetic_images_have_the_statistics_that_batch_norm_knows(model):
    noise = jax.random.normal(KEY, (64, *SHAPE))
    made = synthetic_images(model, KEY, 64, steps=60)
    assert loss_of(model, images(128)) < 1e-6
    assert loss_of(model, noise) > 0.2
    assert loss_of(model, made) < loss_of(model, noise) / 5
    # Of the pixels that real images can have, and as many of each class.
    assert -2 <= jnp.min(made) < -1
    assert 1 < jnp.max(made) <= 2
    log_probabilities = jax.nn.log_softmax(model.logits(made))
    labels = jnp.arange(64) % 3
    intended, others = (
        jnp.mean(log_probabilities[jnp.arange(64), (labels + shift) % 3]) for shift in (0, 1)
    )
    assert intended > others + 0.1


def test_the_loss_of_statistics_is_the_divergence_of_normal_distributions():
    moments = {("norm",): (jnp.array([0.0, 2.0]), jnp.array([1.0, 4.0]))}
    state = {"batch_stats": {"norm": {"mean": jnp.array([0.0, 1.0]), "var": jnp.array([1.0, 1.0])}}}
    # log(2) + (1 + 1) / (2 * 4) - 1/2 of the second feature, 0 of the first.
    expected = (np.log(2) - 0.25) / 2
    assert float(statistics_loss(moments, state)) == pytest.approx(expected, rel=1e-4)


def activations(model, batches):
    """The inputs of both batch norms, feature by feature, computed by NumPy in float64."""
    p = jax.tree.map(functools.partial(np.asarray, dtype=np.float64), model.params)
    first, second = [], []
    for batch in np.asarray(batches, np.float64):
        padded = np.pad(batch, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        x = np.einsum("nhwcij,ijco->nhwo", windows, p["conv"]["kernel"]) + p["conv"]["bias"]
        first.append(x.reshape(-1, 4))
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        x = np.maximum(x * p["first"]["scale"] + p["first"]["bias"], 0).mean((1, 2))
        second.append(x @ p["dense"]["kernel"] + p["dense"]["bias"])
    return {"first": np.concatenate(first), "second": np.concatenate(second)}


def test_statistics_change_as_those_of_the_activations_do(model):
    rounded = model.at("int4")
    batches = [images(32, seed=1), images(32, seed=2)]
    before, after = activations(model, batches), activations(rounded, batches)
    calibrated = calibration.with_statistics(rounded, model, batches)
    moments = calibration.moments_over(rounded, batches, dict(model.model_state))
    for name in before:
        mean, var = moments[name,]
        np.testing.assert_allclose(mean, after[name].mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(var, after[name].var(0), rtol=1e-4, atol=1e-5)
        known, new = (m.model_state["batch_stats"][name] for m in (model, calibrated))
        shift = after[name].mean(0) - before[name].mean(0)
        factor = (after[name].var(0) + 1e-5) / (before[name].var(0) + 1e-5)
        assert np.abs(shift).max() > 1e-3
        assert np.abs(factor - 1).max() > 1e-2
        np.testing.assert_allclose(new["mean"], known["mean"] + shift, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(new["var"], known["var"] * factor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["int4", "coded:0.5"])
@pytest.mark.parametrize("source", few_quick(["data", "synthetic"], 1))
def test_calibrating_by_a_source(model, source, precision, monkeypatch):
    monkeypatch.setattr(calibration, "_IMAGE_STEPS", 2)
    monkeypatch.setattr(calibration, "_SCALE_STEPS", 2)
    monkeypatch.setattr(calibration, "BATCH_SIZE", 16)
    monkeypatch.setattr(calibration, "dataset_of", lambda *_: None)
    monkeypatch.setattr(calibration, "training_images", lambda _: [images(16)])
    monkeypatch.setattr(calibration, "_SCALE_RATE", 0.03)
    rounded, calibrated = model.at(precision), calibration.calibrate(model, precision, source)
    count = {"data": 16, "synthetic": calibration.BATCHES * 16}[source]
    assert calibrated.provenance["calibration"] == {"images": source, "count": count}
    assert calibrated.precision == precision
    # Scales are fitted to real images alone.
    scales = [next(iter(m.stored["pools"].values())).scales for m in (rounded, calibrated)]
    assert np.any(scales[0] != scales[1]) == (source == "data")
    new, old = (m.model_state["batch_stats"]["first"]["var"] for m in (calibrated, rounded))
    assert np.any(new != old)
    # What was measured of it holds of its file.
    again = calibration.as_in_a_file(calibrated)
    for group in ("stored", "model_state"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(again, group), getattr(calibrated, group)
        )


def test_fitted_scales_bring_the_logits_closer(model):
    rounded = model.at("int8")
    pools = {
        name: pool.replace(scales=1.08 * pool.scales)
        for name, pool in rounded.stored["pools"].items()
    }
    rounded = dataclasses.replace(rounded, stored={**rounded.stored, "pools": pools})
    batches = [images(64, seed=1)]
    targets = [model.logits(batches[0])]
    fitted = calibration.fitted_scales(rounded, batches, targets, steps=100)

    def divergence(other):
        p, q = (np.asarray(jax.nn.log_softmax(x)) for x in (targets[0], other.logits(batches[0])))
        return np.mean(np.sum(np.exp(p) * (p - q), axis=-1))

    assert divergence(fitted) < 0.5 * divergence(rounded)
    for name, pool in rounded.stored["pools"].items():
        np.testing.assert_array_equal(fitted.stored["pools"][name].values, pool.values)
        assert np.any(fitted.stored["pools"][name].scales != pool.scales)
    # Only the scales are fitted.
    for group in ("scales", "stored"):
        jax.tree.map(np.testing.assert_array_equal, fitted.stored[group], rounded.stored[group])


class NoNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(16)(nn.Dense(16)(x))


def test_what_cannot_be_calibrated_is_told(model):
    calibration.check(model, "int4")
    with pytest.raises(ValueError, match="precision='float32' rounds nothing"):
        calibration.check(model, "float32")
    with pytest.raises(ValueError, match=r"stored as int8 already.* start from a float32 artifact"):
        calibration.check(model.at("int8"), "int8")
    with pytest.raises(ValueError, match=r"does not name a model of smh_jax\.models"):
        calibration.check(dataclasses.replace(model, model=None), "int4")
    with pytest.raises(ValueError, match="does not say which dataset"):
        calibration.calibrate(model, "int4", "data")
    own = smh_jax.compress(NoNorm(), jnp.zeros((1, 8)), target_size=200)
    collections = own.init(KEY, jnp.zeros((1, 8)))
    with pytest.raises(ValueError, match="a model with batch norm, and this one has none"):
        calibration.check(Artifact.of(own, collections), "int4")
