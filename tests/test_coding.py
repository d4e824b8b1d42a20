"""Entropy-coded pools: what they cost, what is promised while training, and the way back."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smh_jax
from smh_jax import methods
from smh_jax.methods import entropy
from smh_jax.shipping import artifact
from smh_jax.shipping.artifact import container, entropy_coder
from tests import artifacts

GOLDEN_WORDS = [562037318, 2]
GOLDEN_LOGITS = [
    2.97225, 1.05464, -1.08593, -3.97771, 2.34195, -1.44731, 3.35852, -1.51664, -2.88077, -1.02744
]  # fmt: skip
coded_bits = jax.jit(entropy.coded_bits, static_argnums=1)


def draw(shape, kind="normal", seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(size=shape) if kind == "normal" else random.laplace(size=shape)
    return jnp.asarray(3e-3 * values, jnp.float32)


def coded_bytes(pool, step):
    integers = methods.rounding.quantize(pool, f"coded:{step}").values
    words, tables = entropy_coder.encode([np.asarray(integers)])
    return words.nbytes + tables.nbytes


@pytest.mark.parametrize("kind", ["normal", "laplace"])
@pytest.mark.parametrize("step", [0.125, 0.5, 1.5])
def test_the_coder_needs_what_is_promised(kind, step):
    pool = draw((400, 30), kind)
    promised = float(coded_bits(pool, step)) / 8
    assert coded_bytes(pool, step) == pytest.approx(promised, rel=0.02)
    # Of any distribution with this deviation the normal one takes the most bits; in float64.
    bound = 0.5 * np.log2(2 * np.pi * np.e * (1 / step**2 + 1 / 12)) / 8 * pool.size
    assert promised < 1.03 * bound
    if kind == "laplace":
        # Its tail makes the table longer, and all else 0.1 bits shorter.
        assert promised - entropy.BITS_PER_BIN / 8 * 2 * 127 < 0.98 * bound


def test_bits_do_not_depend_on_a_pools_size_and_their_gradient_saves_some():
    pool = draw((400, 30))
    bits, gradient = jax.jit(jax.value_and_grad(entropy.coded_bits))(pool, 0.5)
    assert coded_bits(1000 * pool, 0.5) == pytest.approx(float(bits), rel=1e-4)
    along = float(jnp.vdot(gradient, pool)) / float(
        jnp.linalg.norm(gradient) * jnp.linalg.norm(pool)
    )
    assert abs(along) < 1e-3
    step = 0.5 * jnp.linalg.norm(pool) * gradient / jnp.linalg.norm(gradient)
    assert coded_bits(pool - step, 0.5) < 0.98 * bits


def test_a_pool_of_zeros_costs_its_table_and_has_a_gradient():
    bits, gradient = jax.value_and_grad(entropy.coded_bits)(jnp.zeros((20, 30)), 0.5)
    assert float(bits) == entropy.TABLE_BITS + entropy.BITS_PER_BIN
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", ["smh", pytest.param("dense", marks=pytest.mark.slow)])
def test_the_penalty_is_the_mean_bits_of_what_is_coded(kind):
    made = artifacts.make(kind)
    pools = made.method.pools(made.variables)
    method = methods.rounded(made.method, "coded:0.5", rate_weight=0.1)
    expected = 0.1 * sum(float(coded_bits(p, 0.5)) for p in pools) / sum(p.size for p in pools)
    assert float(jax.jit(method.penalty)(made.variables)) == pytest.approx(expected, rel=1e-5)
    assert float(methods.rounded(made.method, "coded:0.5").penalty(made.variables)) == 0
    # A gradient for what is coded, and for nothing else.
    gradient = jax.jit(jax.grad(method.penalty))(made.variables)
    assert all(np.any(leaf != 0) for leaf in made.method.pools(gradient))
    zeros = made.method.map_pools(jnp.zeros_like, gradient)
    assert not any(np.any(leaf != 0) for leaf in jax.tree.leaves(zeros))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "int2", "coded:0.5"])
def test_dense_kernels_are_rounded_as_pools_are(precision):
    made = artifacts.make("dense")
    params = jax.jit(methods.rounded(made.method, precision).materialize)(made.variables)
    leaves, exact = (made.method.manifest.leaves(tree) for tree in (params, made.params))
    for name, leaf in leaves.items():
        if leaf.ndim < 2:
            np.testing.assert_array_equal(leaf, exact[name])
        else:
            rounded = methods.rounding.round_to(exact[name], precision)
            np.testing.assert_allclose(leaf, rounded, rtol=1e-5, atol=1e-7)
            assert np.any(leaf != exact[name])


SLOW = ("dense", "tucker")


@pytest.mark.parametrize("kind", ["smh", *(pytest.param(k, marks=pytest.mark.slow) for k in SLOW)])
@pytest.mark.parametrize("precision", ["int2", "coded:0.5"])
def test_a_coded_file_holds_what_was_rounded_and_is_written_again_the_same(kind, precision):
    rounded = artifacts.make(kind).at(precision)
    data = artifact.encode(rounded)
    loaded = artifact.file.decode(data)
    jax.tree.map(
        np.testing.assert_array_equal,
        (loaded.variables, dict(loaded.model_state)),
        (rounded.variables, dict(rounded.model_state)),
    )
    assert artifact.encode(loaded) == data
    images = artifacts.images(2, artifacts.IMAGE_SHAPE)
    assert np.any(np.asarray(artifacts.make(kind).logits(images)) != loaded.logits(images))


def test_all_of_a_coded_file_is_small():
    full, coded = (artifacts.make(share=0.25, width=1.0).at(p) for p in ("float32", "coded"))
    # Other than its numbers.
    tensors, _ = container.read(artifact.encode(coded))
    overhead = len(artifact.encode(coded)) - sum(values.nbytes for values in tensors.values())
    assert overhead < 1500
    assert len(artifact.encode(coded)) < len(artifact.encode(full)) / 5


def test_the_stream_of_today_is_read_and_written_as_ever():
    """Another release of the coder that writes or reads anything else has to be noticed."""
    arrays = [np.array([0, 1, -1, 0, 0, 2, 0, -1], np.int8), np.full(5, 7, np.int8)]
    words, tables = entropy_coder.encode(arrays)
    assert words.tolist() == GOLDEN_WORDS
    assert tables.tolist() == [127, 3, 239, 255, 223, 223, 135, 0, 255]
    decoder = entropy_coder.Decoder(np.array(GOLDEN_WORDS, np.uint32), tables)
    for array in arrays:
        np.testing.assert_array_equal(decoder.take(array.size), array)
    decoder.finish()


def test_a_coded_file_of_before_is_read_as_ever():
    """Written once by `artifacts.make().at("coded:0.25")`; never to be written anew."""
    path = pathlib.Path(__file__).parent / "data" / "coded.smh"
    loaded = smh_jax.load(path)
    assert loaded.precision == "coded:0.25"
    pools = {
        name: (
            pool.shape,
            int(np.abs(np.asarray(pool.values, int)).sum()),
            pool.values[:8].tolist(),
        )
        for name, pool in loaded.stored["pools"].items()
    }
    assert pools == {
        "u": ((99, 16), 5020, [-7, 3, 0, -2, 0, 5, 0, 3]),
        "v": ((16, 49), 2470, [2, 0, 2, 2, 2, -3, -3, -6]),
    }
    logits = loaded.logits(artifacts.images(1))[0]
    np.testing.assert_allclose(logits, GOLDEN_LOGITS, rtol=1e-3, atol=1e-3)
    # What is written of it today is read alike.
    again = artifact.file.decode(artifact.encode(loaded))
    jax.tree.map(np.testing.assert_array_equal, again.variables, loaded.variables)


@pytest.mark.parametrize(("precision", "weight", "match"), [
    ("coded:0.5", -1.0, "rate_weight=-1.0 must be at least 0"),
    ("int4", 0.1, "rate_weight=0.1 goes with pool_precision='coded', not 'int4'"),
    ("float32", 0.1, "rate_weight=0.1 goes with"),
    ("coded:9", 0.0, "pool_precision='coded:9': the step must be a number from 0.01 to 4.0"),
    ("int5", 0.0, "pool_precision='int5' must be one of"),
])  # fmt: skip
def test_precisions_and_weights_that_cannot_be(precision, weight, match):
    with pytest.raises(ValueError, match=match):
        methods.rounded(artifacts.make().method, precision, weight)


def test_a_rounded_method_says_of_what():
    method = artifacts.make().method
    assert repr(methods.rounded(method, "coded:0.5")) == f"Rounded({method!r}, 'coded:0.5')"


def test_saving_at_a_precision_is_loading_at_it(tmp_path):
    saved = smh_jax.save(tmp_path / "model.smh", artifacts.make(), precision="coded:0.3")
    loaded = smh_jax.load(tmp_path / "model.smh")
    assert loaded.precision == "coded:0.3"
    jax.tree.map(np.testing.assert_array_equal, loaded.params, saved.params)
