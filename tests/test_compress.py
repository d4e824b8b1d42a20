"""Models of one's own, as `smh_jax.compress` gives them, in loops that know nothing of it."""

import functools

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from sklearn import datasets

import smh_jax
from smh_jax import Manifest, methods
from smh_jax.config import OptimizerConfig
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
    return compressed, compressed.init(KEY, IMAGES, train=False)


@functools.cache
def tagger():
    tokens = jnp.arange(12, dtype=jnp.int32).reshape(2, 6)
    weights = jax.ShapeDtypeStruct((2, 6), jnp.float32)
    compressed = smh_jax.compress(
        Tagger(), tokens, target_size=900, example_kwargs={"weights": weights, "deterministic": True}
    )
    rngs = {"params": KEY, "dropout": jax.random.key(1)}
    return compressed, tokens, compressed.init(rngs, tokens, deterministic=False)


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
    variables = compressed.init(KEY, a, 2 * a)
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
