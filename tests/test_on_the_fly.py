"""Inference that generates layer by layer: the same logits, in a fraction of the memory."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smh_jax import Manifest, methods, models
from smh_jax.shipping import on_the_fly
from tests.small import TwoLayers
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
    "smh_fixed": ("smh", {"scale": "fixed", "modifier": "sign"}),
    "smh_bfloat16": ("smh", {"pool_dtype": "bfloat16"}),
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
    """Variables of which no two scales are alike, large enough for deep models' activations."""
    variables = method.init(jax.random.key(0))
    if "scales" in variables:
        variables["scales"] = 1 + jnp.linspace(0, 2, variables["scales"].size)
    return variables


def both_logits(model, method, images, at_once):
    """Of the model on all its weights, and on the fly."""
    state = dict(model.init(jax.random.key(1), images, train=False))
    del state["params"]
    variables = variables_of(method)

    @jax.jit
    def unpacked(variables):
        params = method.materialize(variables)
        return model.apply({"params": params, **state}, images, train=False)

    function = jax.jit(on_the_fly.predict(model, method, at_once))
    return unpacked(variables), function(variables, state, images)


def assert_same(expected, logits, tolerance=1e-5):
    assert np.std(np.asarray(expected), axis=0).min() > 1e-6  # they depend on the image
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=tolerance * scale)


@pytest.mark.parametrize(
    ("name", "at_once"),
    [(name, None) for name in (*VARIANTS, *DECOMPOSITIONS, *MORE)]
    + [(name, 0) for name in (*VARIANTS, *DECOMPOSITIONS, *MORE) if "smh" in name],
)
def test_every_method(name, at_once):
    model = TwoLayers()
    images = jax.random.normal(jax.random.key(2), (3, 8, 8, 1))
    manifest = Manifest.from_model(model, images.shape)
    if name in VARIANTS:
        method = create(manifest, name, 390)
    else:
        kind, options = (DECOMPOSITIONS | MORE)[name]
        method = methods.create(kind, manifest, target_size=390, **options)
    assert_same(*both_logits(model, method, images, at_once))


@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        ("cifar_resnet8", {}, 8),
        ("resnet18", {"width_multiplier": 0.125}, 32),
        ("efficientnet_b0", {"width_multiplier": 0.25}, 32),
        ("cifar_resnet8", {"dtype": "bfloat16"}, 8),
    ],
)
def test_every_family_of_models(name, options, side):
    model = models.create(name, num_classes=5, **options)
    images = jax.random.normal(jax.random.key(2), (2, side, side, 3))
    manifest = Manifest.from_model(model, images.shape)
    method = methods.create("smh", manifest, target_size=manifest.num_weights // 3)
    expected, logits = both_logits(model, method, images, None)
    # Rounding grows with the depth.
    assert_same(expected, logits, 0.1 if options.get("dtype") == "bfloat16" else 1e-3)


@pytest.mark.parametrize("at_once", [None, 0])
def test_any_use_of_weights(at_once):
    model = Unusual()
    images = jax.random.normal(jax.random.key(2), (3, 8, 8, 1))
    manifest = Manifest.from_model(model, images.shape)
    method = methods.create("smh", manifest, target_size=900)
    assert {"loop", "positions", "shared/kernel"} <= {t.name for t in method.manifest.hashed}
    assert_same(*both_logits(model, method, images, at_once))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38])
def test_the_clock_is_zero_whatever_the_activations_are(value):
    zero = jax.jit(lambda x: on_the_fly._Clock(x).zero())
    result = zero(jnp.full((2, 3), value))
    assert (result, result.dtype) == (0, jnp.int32)
    # The compiler keeps the dependence.
    assert "compare" in zero.lower(jnp.ones(3)).compile().as_text()


def test_it_can_be_exported_for_any_batch_size():
    model = models.create("cifar_resnet8", num_classes=5, width_multiplier=0.5)
    images = jax.random.normal(jax.random.key(2), (3, 8, 8, 1))
    manifest = Manifest.from_model(model, images.shape)
    method = methods.create("smh", manifest, target_size=6000, blocks=2)
    state = dict(model.init(jax.random.key(1), images, train=False))
    del state["params"]
    variables = variables_of(method)
    predict = jax.jit(on_the_fly.predict(model, method))
    (batch,) = jax.export.symbolic_shape("batch")
    exported = jax.export.export(predict, platforms=("cpu", "cuda", "tpu"))(
        *jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (variables, state)),
        jax.ShapeDtypeStruct((batch, 8, 8, 1), jnp.float32),
    )
    loaded = jax.export.deserialize(exported.serialize())
    for some in (images, images[:1]):
        expected = predict(variables, state, some)
        np.testing.assert_allclose(
            loaded.call(variables, state, some), expected, rtol=1e-5, atol=1e-6
        )


def peak_bytes(function, *arguments):
    """Arguments and temporaries of a program by XLA's own analysis."""
    memory = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes


@pytest.mark.parametrize(
    ("name", "side", "target_size", "blocks", "bound"),
    [
        ("resnet50", 224, 2_555_703, 1, 0.40),
        pytest.param("resnet50", 224, 2_555_703, 16, 0.40, marks=pytest.mark.slow),
        pytest.param("efficientnet_b4", 380, 5_000_000, 1, 0.65, marks=pytest.mark.slow),
    ],
)
def test_memory_is_bounded(name, side, target_size, blocks, bound):
    model = models.create(name, num_classes=1000)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    manifest = Manifest.from_model(model, images.shape, measure=False)
    method = methods.create("smh", manifest, target_size=target_size, blocks=blocks)

    def init(key):
        return model.init(key, jnp.zeros(images.shape), train=False)

    state = dict(jax.eval_shape(init, jax.random.key(0)))
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
