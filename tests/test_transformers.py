"""Transformers: counts, parity with an independent implementation, errors, and all that ships."""

import functools
import json

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from smh_jax import Manifest, methods, models
from smh_jax.models import vit
from smh_jax.shipping import artifact as artifacts
from smh_jax.shipping import onnx as onnx_export
from smh_jax.shipping import stablehlo
from smh_jax.training.loop import train_and_evaluate
from tests import reference_transformers
from tests.numerics import as_float64
from tests.small import digits_config
from tests.test_train import final_state

# Touvron et al. 2021, table 1: parameters, and multiply-adds in billions (their code's tables).
VISION = {
    "vit_ti16": (5_717_416, "1.3"),
    "vit_s16": (22_050_664, "4.6"),
    "vit_b16": (86_567_656, "17.6"),
}
SMALL = {"patch_size": 4, "depth": 2, "width_multiplier": 0.125}


def small(**options) -> nn.Module:
    return models.create("vit_ti16", num_classes=10, **(SMALL | options))


def shapes(model, shape):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), images)["params"]


def random_params(like, seed=0, stddev=0.15):
    """Weights of any sort, with norms and biases that matter; float32."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        around = 1.0 if path[-1].key == "scale" else 0.0
        return (around + stddev * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, like)


def error(found, expected):
    largest = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * largest, "the inputs are ignored"
    return np.abs(found - expected).max() / largest


@pytest.mark.parametrize("name", VISION)
def test_counts_and_multiply_adds_of_vision(name):
    model = models.create(name, num_classes=1000)
    parameters, multiply_adds = VISION[name]
    manifest = Manifest.from_model(model, (1, 224, 224, 3), measure=False)
    assert manifest.num_weights == parameters
    assert models.default_resolution(name) == 224
    counted = models.count_multiply_adds(model, (1, 224, 224, 3))
    assert f"{counted / 1e9:.1f}" == multiply_adds


def test_multiply_adds_by_hand():
    width, tokens = 24, 5
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    expected = 4 * 16 * 3 * width + 2 * block + width * 10
    assert models.count_multiply_adds(small(), (1, 8, 8, 3)) == expected


def disagreement(model, images, params):
    heads = {"num_heads": 3, "patch_size": 4}
    expected = reference_transformers.vision(as_float64(params), as_float64(images), **heads)
    apply = jax.jit(functools.partial(model.apply, train=False))
    return error(apply({"params": params}, images), expected)


def test_logits_of_vision_and_that_other_settings_are_noticed():
    images = np.random.default_rng(1).normal(size=(2, 8, 12, 3)).astype(np.float32)
    params = random_params(shapes(small(), images.shape))
    assert disagreement(small(), images, params) < 1e-4
    # What the blocks are made of is compared, too.
    assert disagreement(small(layer_norm_epsilon=0.1), images, params) > 1e-3
    other_heads = small().clone(num_heads=6, width_multiplier=0.0625)
    assert disagreement(other_heads, images, params) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_ti16", "vit_s16", "vit_b16"])
def test_logits_of_vision_at_full_size(name):
    images = np.random.default_rng(1).normal(size=(2, 224, 224, 3)).astype(np.float32)
    model = models.create(name, num_classes=1000)
    params = random_params(shapes(model, images.shape), stddev=0.03)
    expected = reference_transformers.vision(
        as_float64(params), as_float64(images), num_heads=model.num_heads, patch_size=16
    )
    found = jax.jit(functools.partial(model.apply, train=False))({"params": params}, images)
    assert error(found, expected) < 1e-4


def test_initial_values_of_vision():
    manifest = Manifest.from_model(small(), (1, 8, 8, 3))
    tensors = {tensor.name: tensor for tensor in manifest.tensors}
    xavier = np.sqrt(6 / (24 + 72)) / np.sqrt(3)
    kernel = tensors["block1/attention/qkv/kernel"].initial
    assert (kernel.distribution, kernel.stddev) == ("uniform", pytest.approx(xavier, rel=0.02))
    assert tensors["class_token"].initial.stddev == pytest.approx(0.02 * 0.87963, rel=0.02)
    # Layer norm starts at one, which no pool of mean zero does: it is stored. Its bias is hashed.
    stored = {tensor.name for tensor in manifest.stored}
    assert stored == {t for t in tensors if t.endswith("/scale")}
    assert tensors["norm/bias"].hashed


def test_creation_order_is_the_order_of_first_use():
    model, shape = small(), (1, 8, 8, 3)
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    params = shapes(model, shape)
    program = jax.make_jaxpr(functools.partial(model.apply, train=False))(
        {"params": params}, images
    )
    flat, _ = jax.tree_util.tree_flatten_with_path(({"params": params}, images))
    names = {
        variable: jax.tree_util.keystr(path[2:], simple=True, separator="/")
        for (path, _), variable in zip(flat, program.jaxpr.invars, strict=True)
    }
    used = [
        names[variable]
        for equation in program.jaxpr.eqns
        for variable in equation.invars
        if not hasattr(variable, "val") and names.get(variable)
    ]
    order = Manifest.from_model(model, shape, measure=False).tensors
    assert list(dict.fromkeys(used)) == [tensor.name for tensor in order]


@pytest.mark.parametrize("rate", ["dropout_rate", "stochastic_depth_rate"])
def test_training_follows_the_key_and_evaluation_has_none(rate):
    rates = {"dropout_rate": 0.0, "stochastic_depth_rate": 0.0, rate: 0.5}
    model = small(**rates)
    images = np.random.default_rng(1).normal(size=(8, 8, 8, 3)).astype(np.float32)
    params = random_params(shapes(model, images.shape))

    @functools.partial(jax.jit, static_argnames="train")
    def logits(key, train):
        return model.apply({"params": params}, images, train=train, rngs={"dropout": key})

    one, other = (logits(jax.random.key(seed), True) for seed in (0, 1))
    np.testing.assert_array_equal(one, logits(jax.random.key(0), True))
    assert not np.array_equal(one, other)
    still, again = (logits(jax.random.key(seed), False) for seed in (0, 1))
    np.testing.assert_array_equal(still, again)


def test_stochastic_depth_rises_from_nothing_to_its_rate():
    rates = {}

    def record(call, args, kwargs, context):
        module = context.module
        if isinstance(module, nn.Dropout) and module.name.startswith("stochastic_depth"):
            rates[module.path] = module.rate
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        shapes(small(depth=3, stochastic_depth_rate=0.2), (1, 8, 8, 3))
    # Both branches of each of three blocks.
    assert list(rates.values()) == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2])


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (1, 10, 8, 3), r"patch_size=4 does not divide images of 10x8.* 1, 2, 5, 10"),
        ({"patch_size": 0}, (1, 8, 8, 3), r"patch_size=0 and depth=2 must be at least 1"),
        ({"depth": 0}, (1, 8, 8, 3), r"depth=0 must be at least 1"),
        ({"width_multiplier": 0.001}, (1, 8, 8, 3), "leaves no channel of 64"),
        ({}, (1, 2, 2, 3), "too small for a total stride of 4"),
        ({"input_resolution": 10}, (1, 8, 8, 3), "does not divide images of 10x10"),
    ],
)
def test_bad_images_and_options(options, shape, message):
    with pytest.raises(ValueError, match=message):
        shapes(small(**options), shape)


def test_bfloat16_is_of_the_products_alone():
    model, shape = small(dtype="bfloat16"), (2, 8, 8, 3)
    params = shapes(model, shape)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    program = jax.make_jaxpr(functools.partial(model.apply, train=False))(
        {"params": params}, images
    )
    products = {
        operand.aval.dtype.name
        for equation in program.jaxpr.eqns
        if equation.primitive.name in ("conv_general_dilated", "dot_general")
        for operand in equation.invars
    }
    assert products == {"bfloat16"}
    assert program.out_avals[0].dtype == jnp.float32


@pytest.mark.parametrize("name", [name for name in methods.names() if name != "dense"])
def test_every_method_makes_the_weights(name):
    manifest = Manifest.from_model(small(), (1, 8, 8, 3), measure=False)
    options = {"parts": ("smh", "multi_hash")} if name == "combined" else {}
    method = methods.create(name, manifest, target_size=manifest.num_weights // 2, **options)
    made = jax.eval_shape(method.materialize, method.abstract_variables)
    assert jax.tree.map(lambda x: x.shape, made) == jax.tree.map(
        lambda x: x.shape, shapes(small(), (1, 8, 8, 3))
    )
    assert method.num_variables <= manifest.num_weights // 2


def test_sizes_are_those_of_deit():
    heads = {name: variant.fixed["num_heads"] for name, variant in vit.VARIANTS.items()}
    assert heads == {"vit_ti16": 3, "vit_s16": 6, "vit_b16": 12}


SHIPPED_OPTIONS = {**SMALL, "depth": 1}
IMAGE_SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def vision_artifact():
    """A ViT of random variables, all of which matter."""
    spec = artifacts.ModelSpec("vit_ti16", 10, models.default_options("vit_ti16") | SHIPPED_OPTIONS)
    manifest = Manifest.from_model(spec.create(), (1, *IMAGE_SHAPE))
    method = methods.create("smh", manifest, target_size=manifest.num_weights // 3)
    rng = np.random.default_rng(3)
    means = {"pools": 0.0, "scales": 2.0, "stored": 1.0}

    def draw(group):
        mean, tree = means[group], method.abstract_variables[group]
        random = lambda x: (mean + 0.5 * rng.normal(size=x.shape)).astype(x.dtype)  # noqa: E731
        return jax.tree.map(random, tree)

    stored = {group: draw(group) for group in method.abstract_variables}
    preprocessing = artifacts.Preprocessing(IMAGE_SHAPE, (0.3,), (0.4,))
    return artifacts.Artifact(method, stored, {}, model=spec, preprocessing=preprocessing)


@pytest.fixture(scope="module")
def some_images():
    return np.random.default_rng(4).normal(size=(3, *IMAGE_SHAPE)).astype(np.float32)


def assert_close(found, expected):
    expected = np.asarray(expected)
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_file_of_a_transformer(vision_artifact, some_images, tmp_path):
    path = tmp_path / "vit.smh"
    artifacts.save(path, vision_artifact)
    loaded = artifacts.load(path)
    np.testing.assert_array_equal(loaded.logits(some_images), vision_artifact.logits(some_images))
    assert path.stat().st_size < 4 * vision_artifact.method.manifest.num_weights


@pytest.mark.parametrize(
    ("precision", "form"),
    [("float32", "on_the_fly"), ("float32", "unpacked"), ("int8", "on_the_fly")],
)
def test_onnxruntime_computes_a_transformer(precision, form, vision_artifact, some_images):
    rounded = vision_artifact.at(precision)
    session = onnxruntime.InferenceSession(onnx_export.export(rounded, form))
    expected = np.asarray(rounded.logits(some_images))
    (logits,) = session.run(["logits"], {"images": some_images})
    (first,) = session.run(["logits"], {"images": some_images[:1]})
    assert_close(logits, expected)
    np.testing.assert_allclose(first, expected[:1], rtol=1e-4, atol=1e-4)


def test_stablehlo_computes_a_transformer_of_any_batch(vision_artifact, some_images):
    program = jax.export.deserialize(bytearray(stablehlo.export(vision_artifact)))
    expected = vision_artifact.logits(some_images)
    assert_close(program.call(some_images), expected)
    np.testing.assert_allclose(program.call(some_images[:1]), expected[:1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_transformer_trains_and_resumes_bit_for_bit(digits_dir, tmp_path):
    options = models.default_options("vit_ti16") | SHIPPED_OPTIONS
    changes = {
        "model__name": "vit_ti16",
        "model__options": options,
        "method__target_size": 3000,
        "optimizer__name": "adamw",
        "optimizer__learning_rate": 0.01,
        "optimizer__schedule": "constant",
        "optimizer__weight_decay": 0.1,
        "optimizer__weight_decay_on": "weights",
        "optimizer__weight_decay_exclude": "bias$|scale$|class_token|positions",
        "log_every_steps": 2,
    }
    half, whole = (
        digits_config(digits_dir, **changes, epochs=steps / 22.453125) for steps in (4, 8)
    )
    train_and_evaluate(half, tmp_path / "resumed")
    resumed = train_and_evaluate(whole, tmp_path / "resumed")
    straight = train_and_evaluate(whole, tmp_path / "straight")
    assert resumed["test_loss"] == straight["test_loss"]
    assert resumed["num_variables"] <= 3000
    one, other = (final_state(tmp_path / name) for name in ("resumed", "straight"))
    assert one.keys() == other.keys()
    assert any("mu" in name for name in one)
    for name, leaf in one.items():
        np.testing.assert_array_equal(leaf, other[name], err_msg=name)
    rows = (tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["train_loss"] for row in rows]
    assert losses[-1] < losses[0]
