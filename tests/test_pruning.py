"""Pruned pools: the schedule, what becomes 0, its gradient, and runs that train so."""

import contextlib
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smh_jax
from smh_jax import inspect, methods
from smh_jax.config import changes_on_resume, from_config_dict, to_json_dict
from smh_jax.methods import entropy, rounding
from smh_jax.methods.file_size import expected_bytes
from smh_jax.methods.pruned import prune, sparsity_at
from smh_jax.shipping import artifact, from_run
from smh_jax.shipping.artifact import entropy_coder
from smh_jax.training import loop, processes, trained
from smh_jax.training.loop import train_and_evaluate
from smh_jax.training.run import Run
from tests import artifacts
from tests.small import digits_config

prune = jax.jit(prune, static_argnums=1)


def test_the_schedule_is_that_of_zhu_and_gupta():
    # s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3, s_i = 0 at t_0 = 0; 40 of 80 steps.
    final, steps, end = 0.9, 80, 40
    expected = [final + (0 - final) * (1 - min(t, end) / end) ** 3 for t in range(steps)]
    found = [float(sparsity_at(t / steps, final)) for t in range(steps)]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert found[0] == 0
    assert found[-1] == found[end] == pytest.approx(final)


@pytest.mark.parametrize("shape", [(7,), (13, 5), (3, 3, 4, 8)])
@pytest.mark.parametrize("sparsity", [0.25, 0.9, 0.99])
def test_the_smallest_magnitudes_become_zero(shape, sparsity):
    pool = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    order = np.argsort(np.abs(pool), axis=None)
    expected = pool.ravel().copy()
    expected[order[: int(sparsity * pool.size)]] = 0
    found = prune(pool, sparsity)
    np.testing.assert_array_equal(found, expected.reshape(shape))
    np.testing.assert_array_equal(prune(found, sparsity), found)


def test_equal_magnitudes_stay_and_zeros_are_no_trouble():
    np.testing.assert_array_equal(prune(jnp.array([1.0, -1.0, 1.0, 3.0]), 0.5), [1, -1, 1, 3])
    np.testing.assert_array_equal(prune(jnp.zeros(4), 0.5), np.zeros(4))


@pytest.mark.parametrize("kind", ["smh", pytest.param("dense", marks=pytest.mark.slow)])
def test_weights_are_made_of_pruned_pools_which_are_rounded_then(kind):
    made = artifacts.make(kind)
    around = methods.pruned(methods.rounded(made.method, "coded:0.5"), 0.6)
    assert methods.innermost(around) is made.method
    expected = made.method.map_pools(
        lambda pool: rounding.round_to(prune(pool, 0.6), "coded:0.5"), made.variables
    )
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6),
        jax.jit(around.materialize)(made.variables),
        jax.jit(made.method.materialize)(expected),
    )
    # What is exported has the zeros, and is rounded by the file alone.
    exported = jax.jit(around.exported)(made.variables)
    expected = made.method.map_pools(lambda pool: prune(pool, 0.6), made.variables)
    jax.tree.map(np.testing.assert_array_equal, exported, expected)


def test_the_gradient_reaches_what_is_pruned():
    made = artifacts.make()
    around = methods.pruned(made.method, 0.6)

    def loss(method, variables):
        return sum(
            jnp.sum(jnp.sin(5 * leaf)) for leaf in jax.tree.leaves(method.materialize(variables))
        )

    gradient_of = jax.jit(jax.grad(loss, argnums=1), static_argnums=0)
    found = gradient_of(around, made.variables)
    expected = gradient_of(made.method, jax.jit(around.exported)(made.variables))
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5),
        found, expected,
    )  # fmt: skip
    pool, gradient = made.variables["pools"]["u"], found["pools"]["u"]
    assert np.all(gradient[np.asarray(prune(pool, 0.6) == 0)] != 0)


def test_while_it_trains_the_sparsity_is_that_of_the_schedule():
    made = artifacts.make()
    around = methods.pruned(methods.rounded(made.method, "coded:0.5"), 0.8)
    assert made.method.at(0.3) is made.method

    @jax.jit
    def sparsity(progress):
        return around.at(progress).measures(made.variables)["sparsity"]

    for progress in (0.0, 0.2, 0.5, 0.9):
        expected = float(sparsity_at(progress, 0.8))
        assert float(sparsity(progress)) == pytest.approx(expected, abs=5e-3)
    assert float(around.measures(made.variables)["sparsity"]) == pytest.approx(0.8, abs=5e-3)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.98])
def test_the_coder_needs_what_is_promised_of_pools_with_many_zeros(sparsity):
    values = np.random.default_rng(0).normal(size=(400, 300)).astype(np.float32)
    pool, step = prune(values, sparsity), 0.5
    promised = float(entropy.coded_bits(pool, step)) / 8
    integers = np.asarray(rounding.quantize(pool, f"coded:{step}").values)
    words, tables = entropy_coder.encode([integers])
    assert words.nbytes + tables.nbytes == pytest.approx(promised, rel=0.02)
    # Far less than a bit per element, where that is what the zeros leave: entropy in float64.
    _, counts = np.unique(integers, return_counts=True)
    bits = -np.sum(counts * np.log2(counts / integers.size))
    assert words.nbytes == pytest.approx(bits / 8, rel=0.02)
    if sparsity > 0.9:
        assert bits < 0.25 * integers.size
    decoder = entropy_coder.Decoder(words, tables)
    np.testing.assert_array_equal(decoder.take(integers.size), integers)


def test_the_rate_draws_what_is_pruned_to_no_side():
    pool = prune(np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32), 0.8)
    gradient = np.asarray(jax.grad(entropy.coded_bits)(pool, 1.0))
    zeros = np.asarray(pool) == 0
    np.testing.assert_array_equal(gradient[zeros], 0)
    assert np.all(gradient[~zeros] != 0)


@pytest.mark.parametrize("sparsity", [0.3, 0.9])
def test_the_file_is_as_small_as_expected(sparsity):
    made = artifacts.make(width=1.0, share=0.2)
    around = methods.pruned(made.method, sparsity)
    drawn = {**made.stored, "pools": made.method.init(jax.random.key(0))["pools"]}
    made = dataclasses.replace(made, stored=jax.jit(around.exported)(drawn))
    size = len(artifact.encode(made.at("coded:0.25")))
    expected = expected_bytes(around, made.model_state, "coded:0.25", sparsity)
    # What is left is taken to be normal, which it is not around 0.
    assert size <= expected < 1.3 * size
    assert size < expected_bytes(around, made.model_state, "coded:0.25")


@pytest.fixture(scope="module")
def run(digits_dir, tmp_path_factory):
    """A run that prunes, trained in one go, and its result."""
    folder = tmp_path_factory.mktemp("pruned")
    config = digits_config(
        digits_dir, pruning=0.7, pool_precision="coded:0.5", rate_weight=0.01, epochs=0.5
    )
    return config, folder, train_and_evaluate(config, folder)


@pytest.mark.slow
def test_a_run_says_its_sparsity_and_is_exported_with_it(run):
    config, folder, result = run
    assert result["sparsity"] == pytest.approx(0.7, abs=0.01)
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["sparsity"] == pytest.approx(result["sparsity"])
    exported = from_run.read_artifact(folder)
    pools = exported.method.pools(exported.stored)
    zeros = sum(int(np.sum(np.asarray(pool) == 0)) for pool in pools)
    assert zeros / sum(pool.size for pool in pools) == pytest.approx(result["sparsity"])
    # The file is what the run was evaluated as, but for 8 bits of what is no pool.
    coded = from_run.with_accuracy(exported.at("coded:0.5"), config.data)
    assert coded.accuracy["accuracy"] == pytest.approx(result["test_accuracy"], abs=0.01)
    loaded = smh_jax.load(_saved(folder, coded))
    jax.tree.map(np.testing.assert_array_equal, loaded.params, coded.params)
    images = np.zeros((2, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(loaded.predict(images), coded.predict(images))


def _saved(folder, made):
    smh_jax.save(folder / "model.smh", made)
    return folder / "model.smh"


@pytest.mark.slow
def test_a_run_that_is_resumed_is_the_same_bit_for_bit(run, tmp_path, monkeypatch):
    config, folder, result = run
    # As a process that gets SIGTERM after a quarter of training, while the sparsity grows.
    steps = result["steps"] // 4
    with monkeypatch.context() as patch:
        patch.setattr(processes, "told_to_end", _told_at(steps))
        assert loop.train_and_evaluate(config, tmp_path) is None
    resumed = loop.train_and_evaluate(config, tmp_path)
    assert resumed["test_loss"] == result["test_loss"]
    one, other = (trained.read(path).variables for path in (folder, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def _told_at(steps):
    @contextlib.contextmanager
    def told_to_end():
        yield lambda step: step == steps

    return told_to_end


@pytest.mark.slow
def test_the_schedule_forbids_more_epochs(run):
    config, folder, _ = run
    optimizer = dataclasses.replace(config.optimizer, schedule="constant")
    one, other = (dataclasses.replace(config, optimizer=optimizer, epochs=e) for e in (0.5, 2.0))
    assert changes_on_resume(one, other) == {"epochs": (0.5, 2.0)}
    with pytest.raises(ValueError, match=r"under pruning=0.7 every step's sparsity follows"):
        train_and_evaluate(dataclasses.replace(config, epochs=2.0), folder)


def test_configs_of_before_prune_nothing(digits_dir):
    content = to_json_dict(digits_config(digits_dir))
    del content["pruning"]
    assert from_config_dict(content).pruning == 0.0
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"pruning=.* must be at least 0 and below 1"):
            methods.pruned(artifacts.make().method, share)
    method = artifacts.make().method
    assert methods.pruned(method, 0.0) is method
    assert repr(methods.pruned(method, 0.5)) == f"Pruned({method!r}, 0.5)"


def test_inspect_and_budgets_in_bytes_count_the_zeros(digits_dir):
    runs = [Run.from_config(digits_config(digits_dir, pruning=p, method__target_bytes=2_700),
                            num_devices=1) for p in (0.0, 0.8)]  # fmt: skip
    for run in runs:
        assert 0.97 * 2_700 < run.expected_bytes("coded:0.25") <= 2_700
        assert f"about {run.expected_bytes('coded:0.25'):,} bytes" in inspect.describe_run(run)
    assert runs[1].method.num_variables > 1.3 * runs[0].method.num_variables
