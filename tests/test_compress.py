"""Models of one's own, as `smh_jax.compress` gives them, in loops that know nothing of it."""

import functools

import flax.linen as nn
import flax.serialization
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnxruntime
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import smh_jax
from smh_jax import Manifest, methods
from smh_jax.config import OptimizerConfig
from smh_jax.shipping import on_the_fly, onnx, stablehlo
from smh_jax.training import losses, optim
from tests.small import TwoLayers

KEY = jax.random.key(0)
IMAGES = jax.random.normal(jax.random.key(7), (4, 8, 8, 1))


class Tagger(nn.Module):
    """Scores of tokens [batch, length], with what only some models have: kinds of arguments."""

    @nn.compact
    def __call__(self, tokens, weights=None, *, deterministic):
        x = self.encode(tokens)
        x = x if weights is None else x * weights[..., None]
        x = nn.Dropout(0.5)(nn.LayerNorm()(x), deterministic=deterministic)
        self.sow("intermediates", "features", x)
        return {"scores": nn.Dense(7)(nn.relu(nn.Dense(32)(x)))}

    @nn.compact
    def encode(self, tokens):
        return nn.Embed(50, 16, name="embed")(tokens)


class TwoInputs(nn.Module):
    """Says how far a and b are apart."""

    def setup(self):
        self.layer = nn.Dense(32)

    def __call__(self, a, b):
        return jnp.sum(jnp.square(self.layer(a) - self.layer(b)), -1)

    def embed(self, a):
        return self.layer(a)


@functools.cache
def two_layers():
    kwargs = {"train": False}
    compressed = smh_jax.compress(TwoLayers(), IMAGES, target_size=200, example_kwargs=kwargs)
    return compressed, jax.jit(functools.partial(compressed.init, train=False))(KEY, IMAGES)


@functools.cache
def tagger():
    tokens = jnp.arange(12, dtype=jnp.int32).reshape(2, 6)
    weights = jax.ShapeDtypeStruct((2, 6), jnp.float32)
    compressed = smh_jax.compress(
        Tagger(),
        tokens,
        target_size=900,
        example_kwargs={"weights": weights, "deterministic": True},
    )
    rngs = {"params": KEY, "dropout": jax.random.key(1)}
    init = jax.jit(functools.partial(compressed.init, deterministic=False))
    return compressed, tokens, init(rngs, tokens)


def assert_same(tree, other, rtol=1e-6):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, 1e-6), tree, other)


def test_it_is_the_model_with_generated_weights():
    compressed, collections = two_layers()
    assert set(collections) == {"params", "batch_stats"}
    assert set(collections["params"]) == {"pools", "scales", "stored"}
    sizes = [leaf.size for leaf in jax.tree.leaves(collections["params"])]
    assert sum(sizes) == compressed.num_variables <= 200
    params = compressed.dense_params(collections["params"])
    plain = TwoLayers().init(KEY, IMAGES, train=False)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, plain["params"])
    dense = {"params": params, "batch_stats": plain["batch_stats"]}
    logits = jax.jit(functools.partial(compressed.apply, train=False))(collections, IMAGES)
    np.testing.assert_allclose(logits, TwoLayers().apply(dense, IMAGES, train=False), 1e-5, 1e-6)
    bound = compressed.bind(collections)
    assert isinstance(bound, TwoLayers)
    np.testing.assert_allclose(bound(IMAGES, train=False), logits, 1e-5, 1e-6)


def test_what_it_says_of_itself():
    compressed, _ = two_layers()
    assert isinstance(compressed, nn.Module)
    assert repr(compressed) == (
        f"Compressed(TwoLayers, smh: {compressed.num_variables} variables for 410 weights)"
    )
    assert "norm/scale" in compressed.summary()
    assert "stored (batch norm)" in compressed.summary()
    assert f"num variables: {compressed.num_variables}" in compressed.summary()


def test_gradients_reach_all_variables():
    compressed, collections = two_layers()
    state = {"batch_stats": collections["batch_stats"]}

    @jax.jit
    @jax.grad
    def gradient(variables):
        logits, _ = compressed.apply(
            {"params": variables, **state}, IMAGES, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.square(logits[:, 0]))

    moved = jax.tree.map(jnp.any, gradient(collections["params"]))
    assert moved["pools"] == {"u": True, "v": True}
    assert moved["stored"] == {"norm/scale": True, "norm/bias": True}
    assert moved["scales"]


@pytest.mark.parametrize("mutable", [True, ["batch_stats"], ["batch_stats", "params"], "params"])
def test_collections_change_as_in_the_model(mutable):
    compressed, collections = two_layers()
    dense = {**collections, "params": compressed.dense_params(collections["params"])}
    options = {"train": True, "mutable": mutable}
    if mutable == "params":
        options["train"] = False
    logits, changed = compressed.apply(collections, IMAGES, **options)
    expected, expected_change = TwoLayers().apply(dense, IMAGES, **options)
    np.testing.assert_allclose(logits, expected, 1e-5, 1e-6)
    assert set(changed) == set(expected_change)
    if "params" in changed:
        assert_same(changed["params"], collections["params"])
    if "batch_stats" in changed:
        assert_same(changed["batch_stats"], expected_change["batch_stats"])
        assert not np.allclose(changed["batch_stats"]["norm"]["mean"], 0)


def test_tokens_dropout_and_keyword_arguments():
    compressed, tokens, collections = tagger()
    assert set(collections) == {"params"}

    def scores(seed, **options):
        rngs = {"dropout": jax.random.key(seed)}
        return compressed.apply(collections, tokens, rngs=rngs, **options)["scores"]

    still = scores(0, deterministic=True)
    assert still.shape == (2, 6, 7)
    np.testing.assert_array_equal(still, scores(1, deterministic=True))
    np.testing.assert_array_equal(scores(1, deterministic=False), scores(1, deterministic=False))
    assert not np.allclose(scores(0, deterministic=False), scores(1, deterministic=False))
    assert not np.allclose(still, scores(0, deterministic=True, weights=jnp.full((2, 6), -1.0)))
    _, state = compressed.apply(collections, tokens, deterministic=True, mutable="intermediates")
    assert state["intermediates"]["features"][0].shape == (2, 6, 16)
    _, state = compressed.apply(
        collections, tokens, deterministic=True, capture_intermediates=True, mutable="intermediates"
    )
    assert state["intermediates"]["embed"]["__call__"][0].shape == (2, 6, 16)


@pytest.mark.parametrize("method", ["encode", Tagger.encode, lambda m, x: m.encode(x)])
def test_other_methods_of_the_model(method):
    compressed, tokens, collections = tagger()
    table = compressed.dense_params(collections["params"])["embed"]["embedding"]
    encoded = compressed.apply(collections, tokens, method=method)
    np.testing.assert_allclose(encoded, table[tokens], 1e-6)


def test_two_inputs():
    a, b = jnp.ones((3, 5)), jax.ShapeDtypeStruct((3, 5), jnp.float32)
    compressed = smh_jax.compress(TwoInputs(), a, b, target_size=150)
    variables = jax.jit(compressed.init)(KEY, a, 2 * a)
    assert compressed.apply(variables, a, 2 * a).shape == (3,)
    np.testing.assert_array_equal(compressed.apply(variables, a, a), 0)
    assert compressed.apply(variables, a, method=TwoInputs().embed).shape == (3, 32)


def test_no_input():
    class Constant(nn.Module):
        @nn.compact
        def __call__(self):
            return self.param("w", nn.initializers.normal(1.0), (20, 20))

    compressed = smh_jax.compress(Constant(), target_size=100)
    assert compressed.apply(compressed.init(KEY)).shape == (20, 20)


def test_checkpoints(tmp_path):
    compressed, collections = two_layers()
    restored = flax.serialization.from_bytes(collections, flax.serialization.to_bytes(collections))
    assert_same(restored, collections)
    state = TrainState.create(
        apply_fn=compressed.apply, params=collections["params"], tx=optax.adam(1e-3)
    )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        assert_same(checkpointer.restore(tmp_path / "state", state).params, state.params)


@pytest.mark.parametrize("decay_on", ["variables", "weights"])
def test_the_optimizer_moves_as_the_trainer_does(decay_on):
    compressed, collections = two_layers()
    method, variables = compressed.method, collections["params"]
    fields = {
        "pool_rate": 2.0,
        "scale_rate": 0.1,
        "clip_norm": 0.5,
        "weight_decay": 0.03,
        "weight_decay_on": decay_on,
        "weight_decay_exclude": "dense/kernel" if decay_on == "weights" else "",
    }
    config = OptimizerConfig(name="momentum", **fields)
    schedule = optax.linear_schedule(0.1, 0.2, 3)
    trainer = optim.create(config, schedule)
    ours = smh_jax.optimizer(compressed, optax.sgd(schedule, momentum=0.9), **fields)

    @jax.jit
    def step(variables, state, expected, trainer_state):
        gradient = jax.tree.map(jnp.ones_like, variables)
        updates, state = ours.update(gradient, state, variables)
        penalty = jax.grad(
            lambda v: losses.regularization(v, method.materialize(v), method, config)
        )(expected)
        wanted, trainer_state = trainer.update(
            optax.tree.add(gradient, penalty), trainer_state, expected
        )
        moved = [optax.apply_updates(variables, updates), optax.apply_updates(expected, wanted)]
        return moved[0], state, moved[1], trainer_state

    states = variables, ours.init(variables), variables, trainer.init(variables)
    for _ in range(3):
        states = step(*states)
        assert_same(states[0], states[2])
    assert not np.allclose(states[0]["pools"]["u"], variables["pools"]["u"])


def test_a_function_of_a_key():
    """As Haiku's `init`, or Equinox's modules, filtered."""

    def init(key, width):
        first, *others = jax.random.split(key, 3)
        return {
            "z": {"w": jax.nn.initializers.he_uniform()(first, (20, width))},
            "layers": [0.1 * jax.random.normal(key, (width, width)) for key in others],
            "steps": jnp.arange(3),
            "phase": jnp.ones(2, jnp.complex64),
        }

    manifest = Manifest.from_init(init, 30)
    assert [t.name for t in manifest.tensors] == ["z/w", "layers/0", "layers/1", "steps", "phase"]
    assert {t.name: t.reason for t in manifest.stored} == {
        "steps": "int32 is not a real floating-point dtype",
        "phase": "complex64 is not a real floating-point dtype",
    }
    assert manifest.hashed[1].initial.stddev == pytest.approx(0.1, rel=0.01)
    params = init(KEY, 30)
    method = methods.create("smh", manifest, target_size=1000)
    weights = method.materialize(method.init(KEY, params))
    filled = manifest.fill(params, weights)
    assert jax.tree.structure(filled) == jax.tree.structure(params)
    np.testing.assert_array_equal(filled["layers"][1], weights["layers"]["1"])
    np.testing.assert_array_equal(filled["steps"], params["steps"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "the model has no trainable tensor"),
        ({"a": {"f": jnp.sin}}, "the model has a/f = .*, which is not an array"),
        ({"a": {"n": jnp.arange(3)}}, "has to be stored .a/n: int32 is not a real"),
        ({"a": jnp.ones(3, jnp.complex64)}, "has to be stored .a: complex64 is not a real"),
    ],
)
def test_what_cannot_be_compressed_is_named(params, message):
    with pytest.raises(ValueError, match=message):
        methods.create("smh", Manifest.from_init(lambda key: params), target_size=2)


def test_a_shape_is_no_example():
    with pytest.raises(ValueError, match=r"argument \(1, 8, 8, 1\) must be an array or its shape"):
        smh_jax.compress(TwoLayers(), (1, 8, 8, 1), target_size=200)


def test_a_model_of_ones_own_is_shipped(tmp_path):
    kwargs, (batch,) = {"train": False}, jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, 8, 8, 1), jnp.float32)
    compressed = smh_jax.compress(TwoLayers(), images, target_size=200, example_kwargs=kwargs)
    collections = compressed.init(KEY, IMAGES, train=False)
    expected = compressed.apply(collections, IMAGES, train=False)
    path = tmp_path / "mine.smh"
    smh_jax.save(path, smh_jax.Artifact.of(compressed, collections))
    with pytest.raises(ValueError, match="load it with model="):
        smh_jax.load(path).logits(IMAGES)
    other = smh_jax.compress(TwoLayers(9), IMAGES, target_size=200, example_kwargs=kwargs)
    with pytest.raises(ValueError, match="other tensors than those of Compressed"):
        smh_jax.load(path, model=other)
    artifact = smh_jax.load(path, model=compressed)
    assert_same(artifact.logits(IMAGES), expected, 1e-5)
    program = jax.export.deserialize(bytearray(stablehlo.export(artifact)))
    assert_same(program.call(IMAGES), expected, 1e-5)
    session = onnxruntime.InferenceSession(onnx.export(artifact))
    (logits,) = session.run(["logits"], {"input0": np.asarray(IMAGES)})
    np.testing.assert_allclose(logits, expected, 1e-4, 1e-5)


def test_tokens_are_shipped(tmp_path):
    compressed, tokens, collections = tagger()
    artifact = smh_jax.Artifact.of(compressed, collections)
    smh_jax.save(tmp_path / "tagger.smh", artifact, precision="int8")
    artifact = smh_jax.load(tmp_path / "tagger.smh", model=compressed)
    weights = jnp.linspace(-1.0, 1.0, 12).reshape(2, 6)
    expected = compressed.apply({"params": artifact.variables}, tokens, weights, deterministic=True)
    assert_same(artifact.logits(tokens, weights), expected, 1e-5)
    for form in ("on_the_fly", "unpacked"):
        program = jax.export.deserialize(bytearray(stablehlo.export(artifact, form)))
        assert_same(program.call(tokens, weights), expected, 1e-4)
    session = onnxruntime.InferenceSession(onnx.export(artifact))
    inputs = {"input0": np.asarray(tokens), "weights": np.asarray(weights)}
    (scores,) = session.run(["scores"], inputs)
    np.testing.assert_allclose(scores, expected["scores"], 1e-3, 1e-4)


class Blocks(nnx.Module):
    """Layers in a list, batch statistics and a random stream of its own."""

    def __init__(self, rngs):
        self.blocks = nnx.List(nnx.Conv(n, 8, (3, 3), rngs=rngs) for n in (1, 8))
        self.norm = nnx.BatchNorm(8, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, images):
        for block in self.blocks:
            images = nnx.relu(block(images))
        return self.head(self.dropout(self.norm(images).mean((1, 2))))


def test_an_nnx_module_is_shipped(tmp_path):
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, 8, 8, 1), jnp.float32)
    model = smh_jax.compress(Blocks(nnx.Rngs(0)), images, target_size=300)
    initial = smh_jax.Artifact.of(model)
    in_training = nnx.jit(lambda m, x: m(x))(model, IMAGES)  # moves the statistics, too
    artifact = smh_jax.Artifact.of(model)
    model.eval()
    expected = nnx.jit(lambda m, x: m(x))(model, IMAGES)
    for other in (in_training, initial.logits(IMAGES)):
        assert np.abs(other - expected).max() > 0.01
    assert_same(artifact.logits(IMAGES), expected, 1e-5)
    path = tmp_path / "mine.smh"
    smh_jax.save(path, artifact)
    assert set(artifact.model_state["state"]) == {"norm"}
    with pytest.raises(ValueError, match="load it with model="):
        smh_jax.load(path).logits(IMAGES)
    with pytest.raises(ValueError, match="other tensors than those of Compressed"):
        smh_jax.load(
            path, model=smh_jax.compress(nnx.Linear(30, 30, rngs=nnx.Rngs(0)), target_size=500)
        )
    # Of other variables, and of another size: those of the file count.
    fresh = Blocks(nnx.Rngs(1))
    loaded = smh_jax.load(path, model=smh_jax.compress(fresh, target_size=400))
    with pytest.raises(ValueError, match=r"give smh_jax\.compress example arguments"):
        loaded.logits(IMAGES)
    loaded = smh_jax.load(path, model=smh_jax.compress(fresh, images, target_size=400))
    assert loaded.method.target_size == 300
    assert_same(loaded.logits(IMAGES), expected, 1e-5)
    predict = jax.jit(on_the_fly.predict(loaded.module, loaded.method, 0, loaded.call))
    assert_same(predict(loaded.variables, loaded.model_state, IMAGES), expected, 1e-5)
    for form in ("on_the_fly", "unpacked"):
        program = jax.export.deserialize(bytearray(stablehlo.export(loaded, form)))
        assert_same(program.call(IMAGES), expected, 1e-5)
    session = onnxruntime.InferenceSession(onnx.export(loaded))
    (logits,) = session.run(["logits"], {"input0": np.asarray(IMAGES)})
    np.testing.assert_allclose(logits, expected, 1e-4, 1e-5)
