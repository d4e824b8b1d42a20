"""Learning from a teacher, and training at the precision at which the pools will be stored."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from smh_jax import Manifest, methods
from smh_jax.config import OptimizerConfig
from smh_jax.methods.rounding import round_to
from smh_jax.shipping import from_run
from smh_jax.training import distillation, evaluation, losses, optim, parallel, trained
from smh_jax.training.loop import train_and_evaluate
from smh_jax.training.run import Run
from smh_jax.training.step import init_state, train_step
from tests.small import TwoLayers, digits_config

SHAPE = (1, 8, 8, 1)


def test_divergence_against_float64():
    random = np.random.default_rng(0)
    logits, teacher = random.normal(size=(2, 5, 7)) * 3
    temperature = 2.5

    def probabilities(values):
        powers = np.exp(values / temperature)
        return powers / powers.sum(-1, keepdims=True)

    p, q = probabilities(teacher), probabilities(logits)
    expected = temperature**2 * np.sum(p * np.log(p / q), axis=-1)
    found = losses.softened_divergence(jnp.float32(logits), jnp.float32(teacher), temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    same = losses.softened_divergence(jnp.float32(logits), jnp.float32(logits), temperature)
    np.testing.assert_allclose(same, 0, atol=1e-5)


def step_once(seed=0, **options):
    """A step with plain gradient descent at rate 1: the change of the variables is the gradient."""
    model = TwoLayers()
    method = methods.create("smh", Manifest.from_model(model, SHAPE), target_size=300)
    method = methods.rounded(method, options.pop("pool_precision", "float32"))
    config = OptimizerConfig(name="sgd", learning_rate=1.0)
    optimizer = optim.create(config, optax.constant_schedule(1.0))
    state = init_state(model, method, optimizer, SHAPE, seed=1)
    random = np.random.default_rng(seed)
    batch = {
        "image": jnp.float32(random.normal(size=(16, *SHAPE[1:]))),
        "label": jnp.int32(random.integers(10, size=16)),
    }
    teacher = options.pop("teacher", None)
    step = functools.partial(
        train_step, model=model, method=method, optimizer=optimizer, config=config, seed=0
    )
    arguments = (state, batch) if teacher is None else (state, batch, teacher)
    mapped = parallel.backend().map_replicas(functools.partial(step, **options), donate_state=False)
    new, _ = mapped(*map(parallel.backend().replicate, arguments))
    new = parallel.backend().first_replica(new)
    gradient = jax.tree.map(lambda a, b: np.asarray(a - b), state.variables, new.variables)
    return model, method, state, batch, gradient


@pytest.fixture(scope="module")
def untaught():
    """A step towards the labels."""
    return step_once()


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), one, other)


@pytest.fixture(scope="module")
def taught():
    """The model as its own teacher, other weights, and a student's step towards them alone."""
    model = TwoLayers()
    init = jax.jit(lambda key: model.init(key, jnp.zeros(SHAPE), train=False))
    teacher = dict(init(jax.random.key(5)))
    teach = distillation.Distillation(model, temperature=3.0, weight=1.0)
    return teacher, step_once(teacher=teacher, distillation=teach)


def test_the_gradient_is_that_of_the_teachers_probabilities(taught):
    teacher, (model, method, state, batch, gradient) = taught
    target = jax.jit(lambda images: model.apply(teacher, images, train=False))(batch["image"])

    def loss(variables):
        collections = {"params": method.materialize(variables), **state.model_state}
        logits, _ = model.apply(collections, batch["image"], train=True, mutable=["batch_stats"])
        # Cross-entropy with the soft targets differs from the divergence by a constant.
        soft = jax.nn.softmax(target / 3.0)
        return 9.0 * jnp.mean(-jnp.sum(soft * jax.nn.log_softmax(logits / 3.0), axis=-1))

    assert_close(gradient, jax.jit(jax.grad(loss))(state.variables))


def test_the_weight_mixes_teacher_and_labels(taught, untaught):
    teacher, (model, *_, towards_teacher) = taught
    *_, towards_labels = untaught
    teach = distillation.Distillation(model, temperature=3.0, weight=0.25)
    *_, mixed = step_once(teacher=teacher, distillation=teach)
    expected = jax.tree.map(lambda a, b: 0.25 * a + 0.75 * b, towards_teacher, towards_labels)
    assert_close(mixed, expected)
    assert np.any(np.abs(towards_teacher["pools"]["u"] - towards_labels["pools"]["u"]) > 1e-2)


def test_parts_of_a_batch_have_their_own_targets(taught):
    """Without batch norm's statistics in the loss, accumulation changes nothing."""
    teacher, (model, *_) = taught
    teach = distillation.Distillation(model, temperature=3.0, weight=1.0)
    loss = jnp.zeros(16)
    random = np.random.default_rng(0)
    images = jnp.float32(random.normal(size=(16, *SHAPE[1:])))
    logits = jnp.float32(random.normal(size=(16, 10)))
    mix = jax.jit(teach.mix)
    whole = mix(loss, logits, teacher, images)
    halves = [mix(loss[s], logits[s], teacher, images[s]) for s in (slice(8), slice(8, 16))]
    np.testing.assert_allclose(whole, jnp.concatenate(halves), rtol=1e-4, atol=1e-6)
    assert not np.allclose(whole[:8], whole[8:])


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("int4", marks=pytest.mark.slow)])
def test_pools_are_rounded_and_the_gradient_goes_straight_through(precision, untaught):
    model, method, state, batch, gradient = step_once(pool_precision=precision)
    method = methods.innermost(method)
    rounded = {
        **state.variables,
        "pools": jax.tree.map(lambda x: round_to(x, precision), state.variables["pools"]),
    }

    def loss(variables):
        collections = {"params": method.materialize(variables), **state.model_state}
        logits, _ = model.apply(collections, batch["image"], train=True, mutable=["batch_stats"])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]))

    expected = jax.jit(jax.grad(loss))(rounded)["pools"]["u"]
    # Where two ways of rounding a row are as good, two programs may choose differently.
    assert np.linalg.norm(gradient["pools"]["u"] - expected) < 0.02 * np.linalg.norm(expected)
    if precision == "int4":
        exact = untaught[-1]["pools"]["u"]
        assert np.linalg.norm(exact - expected) > 0.1 * np.linalg.norm(expected)


@pytest.mark.slow
def test_evaluation_rounds_too(untaught):
    model, method, state, batch, _ = untaught
    batch = batch | {"mask": jnp.ones(16)}

    def loss(state, precision):
        mapped = evaluation.mapped_eval_step(model, methods.rounded(method, precision))
        backend = parallel.backend()
        measured = mapped(*map(backend.replicate, (state.evaluated(), batch)))
        return float(backend.first_replica(measured).compute()["loss"])

    pools = jax.tree.map(lambda x: round_to(x, "int4"), state.variables["pools"])
    rounded = state.replace(variables={**state.variables, "pools": pools})
    assert loss(state, "int4") == pytest.approx(loss(rounded, "float32"), rel=1e-5)
    assert loss(state, "int4") != pytest.approx(loss(state, "float32"), rel=1e-5)


@pytest.mark.slow
def test_a_run_at_fewer_bits_is_handed_on_with_them(digits_dir, tmp_path):
    config = digits_config(digits_dir, pool_precision="int4", epochs=0.1)
    result = train_and_evaluate(config, tmp_path)
    found = trained.read(tmp_path)
    pools = jax.tree.map(lambda x: round_to(x, "int4"), found.variables["pools"])
    method = methods.innermost(found.run.method)
    rounded = method.materialize({**found.variables, "pools": pools})
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6),
        *(found.params, rounded),
    )
    exact = method.materialize(found.variables)
    kernel = exact["classifier"]["kernel"]
    assert np.abs(kernel - found.params["classifier"]["kernel"]).max() > 1e-3
    # The exported file is what the run was evaluated as.
    exported = from_run.read_artifact(tmp_path).at("int4")
    measured = from_run.with_accuracy(exported, config.data)
    assert measured.accuracy["accuracy"] == pytest.approx(result["test_accuracy"], abs=1e-6)


@pytest.mark.slow
def test_a_run_with_a_teacher(digits_dir, tmp_path):
    dense = {"method__name": "dense", "method__target_size": None, "method__options": {}}
    short = {"epochs": 0.2}
    train_and_evaluate(digits_config(digits_dir, **dense, **short), tmp_path / "teacher")
    plain = train_and_evaluate(digits_config(digits_dir, **short), tmp_path / "plain")
    config = digits_config(digits_dir, distillation__teacher=str(tmp_path / "teacher"), **short)
    student = train_and_evaluate(config, tmp_path / "student")
    assert student["steps"] == plain["steps"]
    assert student["test_loss"] != plain["test_loss"]
    # It learned other things with the same first variables.
    one, other = (trained.read(tmp_path / name) for name in ("plain", "student"))
    assert np.any(one.variables["pools"]["u"] != other.variables["pools"]["u"])
    wrong = digits_config(
        digits_dir, data__image_size=6, distillation__teacher=str(tmp_path / "teacher"), **short
    )
    with pytest.raises(ValueError, match=r"distillation\.teacher=.*the same images"):
        train_and_evaluate(wrong, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_configurations_that_make_no_sense(digits_dir):
    for changes, message in (
        ({"distillation__temperature": 0.0}, "distillation.temperature=0.0 must be above 0"),
        ({"distillation__weight": 1.5}, "distillation.weight=1.5 must be in"),
        ({"pool_precision": "int5"}, "pool_precision='int5' must be one of"),
        ({"pool_precision": "int4", "rate_weight": 0.1}, "rate_weight=0.1 goes with"),
    ):
        with pytest.raises(ValueError, match=message):
            Run.from_config(digits_config(digits_dir, **changes))
