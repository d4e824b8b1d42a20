"""Dense weights that are drawn to those of a method while they train."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from smh_jax import Manifest, methods
from smh_jax.config import MethodConfig, PullConfig
from smh_jax.shipping import conversion
from smh_jax.training import pull, trained
from smh_jax.training.loop import train_and_evaluate
from tests.small import TwoLayers, digits_config

SMH = MethodConfig("smh", "all", 1900, methods.default_options("smh"))
STRONG = {"first": 1.0, "last": 10.0, "refits": 10}


def flat(tree):
    return {"/".join(k.key for k in path): x for path, x in jax.tree.leaves_with_path(tree)}


def two_layers():
    """A dense model's variables, and a method of fewer."""
    manifest = Manifest.from_model(TwoLayers(), input_shape=(1, 8, 8, 1))
    params = jax.jit(functools.partial(TwoLayers().init, train=False))(
        jax.random.key(0), jnp.ones((1, 8, 8, 1))
    )["params"]
    dense = methods.create("dense", manifest).init(jax.random.key(1), params)
    return dense, methods.create("smh", manifest, target_size=200)


def moved(config, num_steps=5, rate=0.0, gradient=1.0):
    """Variables and state after some updates of plain gradient descent."""
    dense, method = two_layers()
    tx = pull.pulled(optax.sgd(rate), method, config, num_steps)
    state = pull.fitted(tx.init(dense), method, dense)
    gradients = jax.tree.map(lambda x: jnp.full_like(x, gradient), dense)

    @jax.jit
    def update(dense, state):
        updates, state = tx.update(gradients, state, dense)
        return optax.apply_updates(dense, updates), state

    for _ in range(num_steps):
        dense, state = update(dense, state)
    return dense, state, method


def test_every_step_is_a_proximal_one():
    first, _ = two_layers()
    config = PullConfig(first=0.5, last=0.5, refits=1)
    dense, state, method = moved(config, num_steps=1, rate=0.1)
    generated = method.manifest.leaves(method.materialize(state.variables))
    for tensor in method.manifest.tensors:
        before, after = (np.asarray(x["stored"][tensor.name]) for x in (first, dense))
        stepped = before - 0.1
        if tensor.hashed:
            assert np.abs(generated[tensor.name] - stepped).max() > 0.01
            stepped = (stepped + 0.5 * generated[tensor.name]) / 1.5
        np.testing.assert_allclose(after, stepped, 1e-5, 1e-6)
    stored = [tensor.name for tensor in method.manifest.stored]
    np.testing.assert_allclose(
        *(np.concatenate([np.ravel(x["stored"][n]) for n in stored]) for x in
          (dense, {"stored": {n: generated[n] for n in stored}})), 1e-5, 1e-6
    )  # fmt: skip


def distance(dense, state, method):
    params = method.manifest.tree(dense["stored"])
    return np.mean(list(conversion.relative_errors(method, state.variables, params).values()))


def test_they_come_as_close_as_the_strength_says():
    weak, middle, strong = (
        distance(*moved(PullConfig(first=s, last=s), num_steps=10)) for s in (1e-6, 0.1, 10.0)
    )
    assert strong < 1e-3 < 0.5 * middle < middle < 0.8 * weak


def test_the_variables_follow_weights_that_move():
    """Nearly as well as a fit of the last weights would, and far better than one of the first."""
    config = PullConfig(first=1e-6, last=1e-6, refits=10)
    dense, state, method = moved(config, num_steps=20, rate=0.005)
    fitted = pull.fitted(state, method, dense)
    stale = pull.fitted(state, method, two_layers()[0])
    best, followed, left = (distance(dense, s, method) for s in (fitted, state, stale))
    assert 0.99 * best <= followed < best + 0.3 * (left - best) < 0.8 * left


def test_the_strength_grows_geometrically():
    config = PullConfig(first=0.01, last=1.0)
    strengths = [float(pull.strength(config, step, 5)) for step in range(5)]
    np.testing.assert_allclose(strengths, [0.01, 0.0316228, 0.1, 0.316228, 1.0], 1e-5)
    assert float(pull.strength(config, 0, 1)) == pytest.approx(0.01)


@pytest.fixture(scope="module")
def dense(digits_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("dense")
    train_and_evaluate(dense_config(digits_dir), workdir)
    return workdir


def dense_config(digits_dir, **changes):
    method = {"method__name": "dense", "method__target_size": None, "method__options": {}}
    return digits_config(digits_dir, epochs=0.2, **method, **changes)


@pytest.fixture(scope="module")
def learned(dense, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "converted"
    source = conversion.learn(dense, SMH, output, steps=6, learning_rate=0.01, **STRONG)
    return output, source, conversion.convert(source, output)


@pytest.mark.slow
def test_a_run_that_was_pulled_is_converted(dense, learned):
    output, source, errors = learned
    run, new = trained.read(output / "pulled"), trained.read(output)
    assert (run.step, run.config.optimizer.learning_rate) == (6, 0.01)
    assert (new.step, new.run.method.name, new.config.pull) == (0, "smh", PullConfig())
    jax.tree.map(np.testing.assert_array_equal, new.variables, run.pulled)
    jax.tree.map(np.testing.assert_array_equal, new.model_state, run.model_state)
    assert source.run.method.num_variables <= 1900
    plain = conversion.of_run(dense, SMH)
    fitted = conversion.relative_errors(plain.run.method, plain.run.method.fit(plain.params),
                                        plain.params)  # fmt: skip
    assert max(errors.values()) < 0.2 < 0.5 < np.mean(list(fitted.values()))
    assert json.loads((output / "conversion.json").read_text())["learned"]


@pytest.mark.slow
def test_of_a_pulled_run(learned):
    output, source, _ = learned
    named, other = (
        conversion.of_run(output / "pulled", m)
        for m in (SMH, dataclasses.replace(SMH, target_size=1800))
    )
    without = conversion.of_run(output / "pulled")
    for same in (named, without):
        jax.tree.map(np.testing.assert_array_equal, same.variables, source.variables)
    assert (other.variables, other.run.method.target_size) == (None, 1800)


@pytest.mark.slow
def test_a_training_that_is_complete_is_not_repeated(dense, learned):
    output, source, _ = learned
    with pytest.raises(ValueError, match="is not empty"):
        conversion.learn(dense, SMH, output, steps=6)
    for name in ("config.json", "manifest.json", "conversion.json", "checkpoints"):
        (output / name).rename(output / "pulled" / f"{name}.kept")
    again = conversion.learn(dense, SMH, output, steps=6, learning_rate=0.01, **STRONG)
    jax.tree.map(np.testing.assert_array_equal, again.variables, source.variables)
    with pytest.raises(ValueError, match=r"another configuration \(pull.first: 1.0 there, 0.5"):
        conversion.learn(dense, SMH, output, steps=6, learning_rate=0.01, **STRONG | {"first": 0.5})
    for name in ("config.json", "manifest.json", "conversion.json", "checkpoints"):
        (output / "pulled" / f"{name}.kept").rename(output / name)


@pytest.mark.slow
def test_a_training_that_was_ended_resumes_to_the_same(dense, learned, tmp_path):
    output, source, _ = learned
    shutil.copytree(output / "pulled", tmp_path / "pulled")
    shutil.rmtree(tmp_path / "pulled" / "checkpoints" / "6")
    (tmp_path / "pulled" / "result.json").unlink()
    assert trained.read(tmp_path / "pulled").step == 4
    again = conversion.learn(dense, SMH, tmp_path, steps=6, learning_rate=0.01, **STRONG)
    jax.tree.map(np.testing.assert_array_equal, again.variables, source.variables)


@pytest.mark.slow
def test_what_cannot_be_pulled(dense, digits_dir, tmp_path):
    cases = (
        ({"name": "low_rank", "target_size": 1900}, "name='low_rank' cannot be fitted"),
        ({"name": "smh", "target_size": 1}, "pull.towards: .*the smallest possible target"),
        ({"name": "smh", "target_size": 10**6}, "pull.towards: .*is not smaller than the model"),
        ({"name": "smh"}, "pull.towards: target_size=None"),
        ({"name": "smh", "target_size": 1900, "hashed": "none"}, "pull.towards: hashed='none'"),
    )
    for towards, message in cases:
        config = dense_config(digits_dir, pull={"towards": towards})
        with pytest.raises(ValueError, match=message):
            train_and_evaluate(config, tmp_path / "run")
    with pytest.raises(ValueError, match="--workdir goes with --target_size"):
        conversion.of_run(dense)
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        conversion.learn(dense, SMH, tmp_path / "run", steps=0)
    assert not (tmp_path / "run").exists()
