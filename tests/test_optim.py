"""Schedules, optimizers and losses against hand-computed values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from smh_jax import Manifest, methods
from smh_jax.config import OptimizerConfig
from smh_jax.training import losses, optim
from tests.small import TwoLayers


def rates(steps, num_steps=100, batch_size=256, **fields):
    config = OptimizerConfig(learning_rate=0.4, **fields)
    schedule = optim.learning_rate(
        config, batch_size=batch_size, steps_per_epoch=10.0, num_steps=num_steps
    )
    return [float(schedule(step)) for step in steps]


def test_constant_is_scaled_to_the_batch():
    assert rates([0, 99], schedule="constant", batch_size=64) == pytest.approx([0.1, 0.1])


def test_cosine_after_warmup():
    found = rates([0, 5, 10, 55, 100], schedule="cosine", warmup_epochs=1.0)
    assert found == pytest.approx([0.0, 0.2, 0.4, 0.2, 0.0], abs=1e-7)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_piecewise_counts_epochs_from_the_start(warmup):
    found = rates(
        [29, 30, 59, 60],
        schedule="piecewise",
        warmup_epochs=warmup,
        decay_epochs=(3.0, 6.0),
        decay_factor=0.1,
    )
    assert found == pytest.approx([0.4, 0.04, 0.04, 0.004])


def test_one_cycle_rises_and_falls():
    found = rates([0, 30, 99], schedule="one_cycle")
    assert found[0] == pytest.approx(0.4 / 25)
    assert found[1] == pytest.approx(0.4)
    assert found[2] < 0.001


@pytest.mark.parametrize("warmup", [0.0, 5.0])
def test_staircase_counts_from_the_start(warmup):
    # Every 2.4 epochs of 10 steps: at steps 24, 48, 72; the warm-up ends after two of them.
    fields = {"warmup_epochs": warmup, "decay_every_epochs": 2.4, "decay_factor": 0.97}
    found = rates([0, 10, 23, 24, 49, 50, 71, 72, 95], schedule="staircase", **fields)
    expected = [0.4 * 0.97 ** (step // 24) for step in (0, 10, 23, 24, 49, 50, 71, 72, 95)]
    if warmup:
        expected[:5] = [0.4 * step / 50 for step in (0, 10, 23, 24, 49)]
    assert found == pytest.approx(expected)


def test_staircase_inside_of_a_step():
    config = OptimizerConfig(schedule="staircase", decay_every_epochs=1.0, decay_factor=0.5)
    schedule = optim.learning_rate(config, batch_size=256, steps_per_epoch=7.5, num_steps=9)
    found = jax.jit(schedule)(jnp.arange(31))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, [0.1 * 0.5 ** (step // 7.5) for step in range(31)], rtol=1e-6)


def updates(gradient, **fields):
    config = OptimizerConfig(**{"name": "sgd", "schedule": "constant", **fields})
    optimizer = optim.create(config, optax.constant_schedule(0.5))
    state = optimizer.init(gradient)
    first, state = optimizer.update(gradient, state, gradient)
    second, _ = optimizer.update(gradient, state, gradient)
    return first, second


GRADIENT = {
    "pools": {"u": jnp.array([2.0])},
    "scales": jnp.array([3.0]),
    "stored": {"b": jnp.array([6.0])},
}


def test_groups_move_at_their_rates():
    first, _ = updates(GRADIENT, pool_rate=4.0, scale_rate=0.1)
    assert float(first["pools"]["u"][0]) == pytest.approx(-0.5 * 2 * 4)
    assert float(first["scales"][0]) == pytest.approx(-0.5 * 3 * 0.1)
    assert float(first["stored"]["b"][0]) == pytest.approx(-0.5 * 6)


def test_clipping_is_of_the_whole_gradient():
    first, _ = updates(GRADIENT, clip_norm=1.4, pool_rate=4.0)
    # The norm of (2, 3, 6) is 7.
    assert float(first["pools"]["u"][0]) == pytest.approx(-0.5 * 2 / 5 * 4)
    assert float(first["stored"]["b"][0]) == pytest.approx(-0.5 * 6 / 5)


@pytest.mark.parametrize(
    ("name", "second"), [("sgd", -3.0), ("momentum", -3.0 * 1.9), ("nesterov", -3.0 * 2.71)]
)
def test_momentum(name, second):
    assert float(updates(GRADIENT, name=name)[1]["stored"]["b"][0]) == pytest.approx(second)


def test_adam_is_optax_adam():
    expected = optax.adam(0.5)
    want, _ = expected.update(GRADIENT, expected.init(GRADIENT), GRADIENT)
    found, _ = updates(GRADIENT, name="adam")
    np.testing.assert_allclose(found["stored"]["b"], want["stored"]["b"])


def test_adamw_decays_the_variables_apart_from_the_gradient():
    """Two steps of a generated model: optax's own, its mask sparing scales and batch norm."""
    manifest = Manifest.from_model(TwoLayers(), (1, 8, 8, 1), hashed="conv")
    method = methods.create("smh", manifest, target_size=400)
    variables = method.init(jax.random.key(0))
    gradient = jax.tree.map(lambda x: jnp.cos(3 * x), variables)
    stored = {name: "norm" not in name and "bias" not in name for name in variables["stored"]}
    mask = {"pools": True, "scales": False, "stored": stored}
    config = OptimizerConfig(
        name="adamw", weight_decay=0.3, beta2=0.95, weight_decay_exclude="bias$"
    )
    rate = optax.constant_schedule(0.5)
    found, expected, undecayed = (
        _two_steps(optimizer, variables, gradient)
        for optimizer in (
            optim.create(config, rate, method),
            optax.adamw(rate, b2=0.95, weight_decay=0.3, mask=mask),
            optax.adam(rate, b2=0.95),
        )
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), found, expected)
    moved = jax.tree.map(lambda a, b: bool(np.abs(a - b).max() > 1e-3), found, undecayed)
    assert moved == {"pools": {"u": True, "v": True}, "scales": False, "stored": stored}


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("name", ["smh", "elastic", "low_rank", "multi_hash"])
def test_decay_of_generated_weights_moves_no_scale(name, per):
    """Pools and stored tensors get the gradient of the squared norm, with scales held."""
    manifest = Manifest.from_model(TwoLayers(), (1, 8, 8, 1), hashed="all")
    base = "smh" if name == "elastic" else name
    method = methods.create(base, manifest, target_size=390, scale_per=per)
    if name == "elastic":
        method = methods.elastic(method, (330,))
    variables = method.init(jax.random.key(0))
    # Those of biases start at 0, and one stays there.
    moved = jnp.arange(variables["scales"].size).reshape(variables["scales"].shape) % 5
    variables["scales"] = variables["scales"] + 0.1 * moved
    assert (np.asarray(variables["scales"]) == 0).any()
    config = OptimizerConfig(
        name="sgd", weight_decay=0.3, weight_decay_on="weights", weight_decay_exclude="a_dense"
    )
    names = [tensor.name for tensor in losses.decayed_tensors(manifest, "weights", "a_dense")]
    assert len(names) == 4

    def penalty(variables):
        return losses.regularization(variables, method.materialize(variables), method, config)

    def written_out(pools, stored):
        params = method.materialize({**variables, "pools": pools, "stored": stored})
        leaves = manifest.leaves(params)
        return 0.15 * sum(jnp.sum(jnp.square(leaves[name])) for name in names)

    value, found = jax.value_and_grad(penalty)(variables)
    expected, (of_pools, of_stored) = jax.value_and_grad(written_out, (0, 1))(
        variables["pools"], variables["stored"]
    )
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for group, wanted in (("pools", of_pools), ("stored", of_stored)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-6), found[group], wanted
        )
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(of_pools)) > 0.01
    of_weights = jax.grad(
        lambda scales: sum(
            jnp.sum(jnp.square(x))
            for x in manifest.leaves(method.materialize({**variables, "scales": scales})).values()
        )
    )(variables["scales"])
    assert float(jnp.abs(of_weights).max()) > 0.1
    assert float(jnp.abs(found["scales"]).max()) < 1e-5


def test_adamw_decays_the_generated_weights():
    manifest = Manifest.from_model(TwoLayers(), (1, 8, 8, 1), hashed="conv")
    method = methods.create("smh", manifest, target_size=400)
    variables = method.init(jax.random.key(0))
    config = OptimizerConfig(name="adamw", weight_decay=0.3, weight_decay_on="weights")
    optimizer = optim.create(config, optax.constant_schedule(0.5), method)
    # Adam leaves alone what has no gradient: what moves is decay.
    zero = jax.tree.map(jnp.zeros_like, variables)
    update, _ = optimizer.update(zero, optimizer.init(variables), variables)

    def penalty(variables):
        params = method.materialize(variables)
        return losses.half_squared_norm(method, variables, params, "weights")

    expected = jax.tree.map(lambda x: -0.5 * 0.3 * x, jax.grad(penalty)(variables))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), update, expected)
    assert float(jnp.abs(update["pools"]["u"]).max()) > 0.001
    # The loss has no penalty besides.
    params = method.materialize(variables)
    assert float(losses.regularization(variables, params, method, config)) == 0
    coupled = OptimizerConfig(name="adam", weight_decay=0.3, weight_decay_on="weights")
    assert float(losses.regularization(variables, params, method, coupled)) > 0
    with pytest.raises(ValueError, match="needs the method"):
        optim.create(config, optax.constant_schedule(0.5))


def _two_steps(optimizer, variables, gradient):
    @jax.jit
    def moved(variables):
        state = optimizer.init(variables)
        for _ in range(2):
            update, state = optimizer.update(gradient, state, variables)
            variables = optax.apply_updates(variables, update)
        return variables

    return moved(variables)


def test_rmsprop_is_tensorflows():
    """50 steps, in the middle of which the learning rate falls to a third."""
    tf = pytest.importorskip("tensorflow")
    rates = np.where(np.arange(50) < 25, 0.3, 0.1).astype(np.float32)
    generator = np.random.default_rng(0)
    start = generator.normal(size=(6, 5)).astype(np.float32)
    scales = 10.0 ** np.arange(-4, 2)[:, np.newaxis]
    gradients = (generator.normal(size=(50, 6, 5)) * scales).astype(np.float32)

    rate = tf.Variable(0.0)
    variable = tf.Variable(start)
    theirs = tf.compat.v1.train.RMSPropOptimizer(
        lambda: rate, decay=0.8, momentum=0.9, epsilon=1e-3
    )
    config = OptimizerConfig(name="rmsprop", rms_decay=0.8, epsilon=1e-3, momentum=0.9)
    ours = optim.create(config, lambda step: jnp.asarray(rates)[step])
    plain = optax.rmsprop(lambda step: jnp.asarray(rates)[step], 0.8, 1e-3, momentum=0.9)
    values, others = ({"stored": {"w": jnp.asarray(start)}} for _ in range(2))
    state, other_state = ours.init(values), plain.init(others)
    for step in range(50):
        rate.assign(rates[step])
        theirs.apply_gradients([(tf.constant(gradients[step]), variable)])
        gradient = {"stored": {"w": jnp.asarray(gradients[step])}}
        change, state = ours.update(gradient, state, values)
        values = optax.apply_updates(values, change)
        change, other_state = plain.update(gradient, other_state, others)
        others = optax.apply_updates(others, change)
    np.testing.assert_allclose(values["stored"]["w"], variable.numpy(), rtol=2e-5, atol=2e-5)
    # The options matter: without them the result is another one.
    assert np.max(np.abs(others["stored"]["w"] - variable.numpy())) > 0.1


def test_dense_has_one_group():
    first, _ = updates({"stored": {"b": jnp.array([6.0])}}, pool_rate=4.0)
    assert float(first["stored"]["b"][0]) == pytest.approx(-3.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
    labels = np.array([0, 1])
    found = losses.cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(labels), smoothing)
    for row, label, value in zip(logits, labels, found, strict=True):
        logs = [x - math.log(sum(math.exp(y) for y in row)) for x in row]
        target = [(1 - smoothing) * (i == label) + smoothing / 3 for i in range(3)]
        expected = -sum(t * log for t, log in zip(target, logs, strict=True))
        assert float(value) == pytest.approx(expected, rel=1e-5)


def test_weight_decay_takes_what_it_says():
    manifest = Manifest.from_model(TwoLayers(), (1, 8, 8, 1), hashed="conv")
    method = methods.create("smh", manifest, target_size=400)
    variables = method.init(jax.random.key(0))
    params = method.materialize(variables)

    def penalty(on):
        return float(losses.half_squared_norm(method, variables, params, on))

    def half_square(*arrays):
        return sum(float(np.sum(np.square(np.asarray(x, np.float64)))) for x in arrays) / 2

    dense = [params[layer][leaf] for layer in ("m_dense", "a_dense") for leaf in ("kernel", "bias")]
    on_variables = half_square(variables["pools"]["u"], variables["pools"]["v"], *dense)
    on_weights = half_square(params["z_conv"]["kernel"], params["z_conv"]["bias"], *dense)
    assert penalty("variables") == pytest.approx(on_variables, rel=1e-5)
    assert penalty("weights") == pytest.approx(on_weights, rel=1e-5)
    # They differ, and batch norm, whose scales alone would add 4, is in neither.
    assert abs(on_variables - on_weights) > 1


def test_weight_decay_spares_what_is_excluded():
    manifest = Manifest.from_model(TwoLayers(), (1, 8, 8, 1), hashed="conv")
    method = methods.create("smh", manifest, target_size=400)
    variables = method.init(jax.random.key(0))
    # Biases start at 0, where they would not show.
    variables["stored"] = jax.tree.map(lambda x: x + 1.0, variables["stored"])
    params = method.materialize(variables)

    def penalty(on, exclude):
        return float(losses.half_squared_norm(method, variables, params, on, exclude))

    biases = [params[layer]["bias"] for layer in ("m_dense", "a_dense", "z_conv")]
    squares = [float(np.sum(np.square(bias))) / 2 for bias in biases]
    assert penalty("weights", "bias$") == pytest.approx(penalty("weights", "") - sum(squares))
    stored = penalty("variables", "") - sum(squares[:2])
    assert penalty("variables", "bias$") == pytest.approx(stored)
    assert squares[0] > 1


@pytest.mark.parametrize(
    ("on", "exclude", "message"),
    [
        ("weights", "nothing", "'nothing' matches none of the 6 tensors .* z_conv/kernel"),
        ("weights", "norm", "'norm' matches none of the 6 tensors"),
        ("variables", "z_conv", "'z_conv' matches none of the 4 tensors that weight decay on vari"),
        ("weights", "(", "is not a regular expression"),
    ],
)
def test_exclusions_that_exclude_nothing_are_refused(on, exclude, message):
    manifest = Manifest.from_model(TwoLayers(), (1, 8, 8, 1), hashed="conv")
    method = methods.create("smh", manifest, target_size=400)
    with pytest.raises(ValueError, match=message):
        losses.decayed_tensors(method.manifest, on, exclude)


def test_weight_decay_of_the_dense_model_is_one_and_the_same():
    method = methods.create("dense", Manifest.from_model(TwoLayers(), (1, 8, 8, 1)))
    variables = method.init(jax.random.key(0))
    params = method.materialize(variables)
    values = [
        float(losses.half_squared_norm(method, variables, params, on))
        for on in ("variables", "weights")
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert values[0] > 1
