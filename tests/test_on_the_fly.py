"""Inference that generates layer by layer: the same logits, in a fraction of the memory."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smh_jax import Manifest, methods, models
from smh_jax.shipping import on_the_fly
from tests.numerics import random_like
from tests.small import TwoLayers, few_quick
from tests.test_methods import VARIANTS, create

DECOMPOSITIONS = {
    "low_rank": ("low_rank", {}),
    "low_rank_channel": ("low_rank", {"matrix": "channel"}),
    "tucker": ("tucker", {}),
    "tensor_train": ("tensor_train", {}),
    "tensor_ring": ("tensor_ring", {}),
}
MORE = {
    "smh_cyclic": ("smh", {"matrix_size": 8, "index": "cyclic"}),
    "smh_padding": ("smh", {"matrix_size": 8, "index": "padding", "padding_value": 0.3}),
    "smh_blocks_cyclic": ("smh", {"matrix_size": 6, "index": "cyclic", "blocks": 2}),
    "smh_blocks_kronecker": ("smh", {"layout": "kronecker", "blocks": 2}),
    "smh_bfloat16_product": ("smh", {"product_dtype": "bfloat16"}),
    "smh_fixed": ("smh", {"scale": "fixed", "modifier": "sign"}),
    "combined_parts": ("combined", {"parts": ("smh:blocks=2", "multi_hash", "low_rank")}),
}


class Layer(nn.Module):
    """One step of a scan."""

    @nn.compact
    def __call__(self, x, _):
        return jnp.tanh(nn.Dense(16, name="dense")(x)), None


class Unusual(nn.Module):
    """Weights that are shared, normalised, scanned, recomputed and used by a loop."""

    @nn.compact
    def __call__(self, images, train: bool):
        x = images.reshape(images.shape[0], -1)[:, :16]
        shared = nn.Dense(16, name="shared")
        x = nn.silu(shared(x))
        x = nn.remat(nn.Dense)(16, name="recomputed")(x)
        x = nn.WeightNorm(nn.Dense(16, name="normal"), variable_filter={"kernel"})(x)
        x = nn.relu6(shared(x))

        stack = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = stack(name="stack")(x, None)
        kernel = self.param("loop", nn.initializers.normal(0.3), (16, 16))
        x = jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ kernel), x)
        # The weights alone make a result, and a weight is a result's only source.
        bias = self.param("positions", nn.initializers.normal(0.3), (10,))
        return x[:, :10] + jnp.exp(bias)[jnp.newaxis]


def variables_of(method):
    return {
        # Large enough for deep models.
        name: random_like(group, mean=1.0 if name == "scales" else 0.0, stddev=0.7)
        for name, group in method.abstract_variables.items()
    }


def state_of(model, images):
    """Batch statistics as the model initializes them, other than the trained ones."""
    init = functools.partial(model.init, train=False)
    state = dict(jax.eval_shape(init, jax.random.key(1), images))
    del state["params"]
    return jax.tree.map(lambda x: np.full(x.shape, 0.2, x.dtype), state)


def both_logits(model, method, images, *at_once):
    """Of the model on all its weights, and on the fly for each number of elements at once."""
    state = state_of(model, images)

    @jax.jit
    def both(variables):
        params = method.materialize(variables)
        expected = model.apply({"params": params, **state}, images, train=False)
        return expected, [
            on_the_fly.predict(model, method, size)(variables, state, images) for size in at_once
        ]

    return both(variables_of(method))


def assert_same(expected, logits, tolerance=1e-5):
    assert np.std(np.asarray(expected), axis=0).min() > 1e-6  # they depend on the image
    scale = np.abs(expected).max()
    for some in logits:
        np.testing.assert_allclose(some, expected, rtol=1e-4, atol=tolerance * scale)


@pytest.fixture(scope="module")
def two_layers():
    """A model, images and its manifest."""
    model = TwoLayers()
    images = np.random.default_rng(2).normal(size=(3, 8, 8, 1)).astype(np.float32)
    return model, images, Manifest.from_model(model, images.shape)


@pytest.mark.parametrize("name", few_quick([*DECOMPOSITIONS, *VARIANTS, *MORE], 12))
def test_every_method(name, two_layers):
    model, images, manifest = two_layers
    if name in VARIANTS:
        method = create(manifest, name, 390)
    else:
        kind, options = (DECOMPOSITIONS | MORE)[name]
        method = methods.create(kind, manifest, target_size=390, **options)
    # Three tensors of unequal sizes at once; where slices of pools are taken, one by one, too.
    at_once = (208, 0) if "smh" in name else (208,)
    assert_same(*both_logits(model, method, images, *at_once))


@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        ("cifar_resnet8", {}, 8),
        ("resnet18", {"width_multiplier": 0.125}, 32),
        pytest.param(
            *("mobilenet_v3_small", {"width_multiplier": 0.25}, 32), marks=pytest.mark.slow
        ),
        ("cifar_resnet8", {"dtype": "bfloat16"}, 8),
    ],
)
def test_every_family_of_models(name, options, side):
    model = models.create(name, num_classes=5, **options)
    images = np.random.default_rng(2).normal(size=(2, side, side, 3)).astype(np.float32)
    manifest = Manifest.from_model(model, images.shape)
    method = methods.create("smh", manifest, target_size=manifest.num_weights // 3)
    # Rounding grows with the depth.
    tolerance = 0.1 if options.get("dtype") == "bfloat16" else 1e-3
    assert_same(*both_logits(model, method, images, None), tolerance)


def test_any_use_of_weights():
    model = Unusual()
    images = np.random.default_rng(2).normal(size=(3, 8, 8, 1)).astype(np.float32)
    manifest = Manifest.from_model(model, images.shape)
    method = methods.create("smh", manifest, target_size=900)
    assert {"loop", "positions", "shared/kernel"} <= {t.name for t in method.manifest.hashed}
    assert_same(*both_logits(model, method, images, None, 0))


def test_the_clock_is_zero_whatever_the_activations_are():
    zero = jax.jit(lambda x: on_the_fly._Clock(x).zero())
    for value in (np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38):
        result = zero(np.full((2, 3), value, np.float32))
        assert (result, result.dtype) == (0, jnp.int32)
    # The compiler keeps the dependence.
    assert "compare" in zero.lower(jnp.ones(3)).compile().as_text()


def peak_bytes(function, *arguments):
    """Arguments and temporaries of a program by XLA's own analysis."""
    memory = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "target_size", "blocks", "bound"),
    [
        # A fifth of its weights are in one layer.
        ("resnet18", 112, 1_168_000, 1, 0.55),
        ("resnet50", 224, 2_555_703, 1, 0.40),
        ("resnet50", 224, 2_555_703, 16, 0.40),
        ("efficientnet_b4", 380, 5_000_000, 1, 0.65),
    ],
)
def test_memory_is_bounded(name, side, target_size, blocks, bound):
    model = models.create(name, num_classes=1000)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    manifest = Manifest.from_model(model, images.shape, measure=False)
    method = methods.create("smh", manifest, target_size=target_size, blocks=blocks)

    init = functools.partial(model.init, train=False)
    state = dict(jax.eval_shape(init, jax.random.key(0), images))
    params = state.pop("params")

    def unpacked(params, state, images):
        return model.apply({"params": params, **state}, images, train=False)

    def all_at_once(variables, state, images):
        return unpacked(method.materialize(variables), state, images)

    reference = peak_bytes(unpacked, params, state, images)
    variables = method.abstract_variables
    assert peak_bytes(on_the_fly.predict(model, method), variables, state, images) <= (
        bound * reference
    )
    assert peak_bytes(all_at_once, variables, state, images) > reference
