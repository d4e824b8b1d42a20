"""Training steps: microbatches, averages and batch norm over devices, against each other."""

import collections
import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from smh_jax import Manifest, methods
from smh_jax.config import OptimizerConfig
from smh_jax.training import optim, parallel
from smh_jax.training.step import eval_step, init_state, train_step

DEVICES = 4
IMAGES = (16, 8, 8, 1)
FIELDS = {
    "name": "rmsprop",
    "learning_rate": 0.02,
    "schedule": "constant",
    "weight_decay": 1e-3,
    "weight_decay_on": "weights",
    "label_smoothing": 0.1,
    "ema_decay": 0.9,
}
VARIANTS = {
    # name: (devices, parts of each device's share, batch norm, groups, dropout rate)
    "four devices": (4, 1, True, None, 0.5),
    "two devices, two parts": (2, 2, True, None, 0.5),
    "one device, four parts": (1, 4, True, None, 0.5),
    "plain: whole batch": (1, 1, False, None, 0.0),
    "plain: four parts": (1, 4, False, None, 0.0),
    "local: four devices": (4, 1, True, None, 0.0),
    "local: two devices": (2, 1, True, None, 0.0),
    "local: one device": (1, 1, True, None, 0.0),
    "synced: four devices": (4, 1, True, ((0, 1, 2, 3),), 0.0),
    "grouped: four devices": (4, 1, True, ((0, 1), (2, 3)), 0.0),
}


class Network(nn.Module):
    """A convolution, batch norm (or none), dropout and a classifier."""

    batch_norm: bool
    dropout_rate: float
    axis_name: str | None = None
    axis_groups: tuple | None = None

    @nn.compact
    def __call__(self, images, train: bool):
        x = nn.Conv(8, (3, 3), strides=2)(images)
        if self.batch_norm:
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                axis_name=self.axis_name,
                axis_index_groups=self.axis_groups,
            )(x)
        x = nn.relu(x).reshape(x.shape[0], -1)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(5)(x)


@functools.cache
def manifest_of(batch_norm):
    """Dropout and the axis have no weights."""
    return Manifest.from_model(Network(batch_norm, 0.0), (1, *IMAGES[1:]))


def state_and_static(batch_norm, groups, dropout_rate, parts, **fields):
    axis_name = parallel.AXIS_NAME if groups else None
    model = Network(batch_norm, dropout_rate, axis_name, groups)
    method = methods.create("smh", manifest_of(batch_norm), target_size=600)
    config = OptimizerConfig(**{**FIELDS, "accumulate_steps": parts, **fields})
    optimizer = optim.create(config, optax.constant_schedule(config.learning_rate))
    static = {"model": model, "method": method}
    ema = config.ema_decay is not None
    state = init_state(**static, optimizer=optimizer, input_shape=(1, *IMAGES[1:]), seed=3, ema=ema)
    return state, static | {"optimizer": optimizer, "config": config, "seed": 5}


def batches(num_steps):
    generator = np.random.default_rng(0)
    for _ in range(num_steps):
        # Examples of unlike brightness: batch norm depends on which of them it sees together.
        images = generator.normal(size=IMAGES) + np.arange(IMAGES[0]).reshape(-1, 1, 1, 1) / 4
        yield {"image": images.astype(np.float32), "label": generator.integers(5, size=IMAGES[0])}


def run(variant, backend, num_steps=3):
    """The state, of every replica, and the metrics after some steps."""
    num_devices, parts, batch_norm, groups, dropout_rate = VARIANTS[variant]
    state, static = state_and_static(batch_norm, groups, dropout_rate, parts)

    def step(state, batch):
        return train_step(state, batch, **static)

    mapped = parallel.backend(backend).map_replicas(
        step, donate_state=False, devices=jax.local_devices()[:num_devices]
    )
    leading = backend == "pmap"
    if leading:
        state = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_devices, *x.shape)), state)
    measured = []
    for batch in batches(num_steps):
        if leading:
            batch = jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), batch)
        state, found = mapped(state, batch)
        found = parallel.backend(backend).first_replica(found)
        measured.append([found.compute()[name] for name in ("loss", "accuracy", "grad_norm")])
    replicas = [
        jax.tree.map(lambda x, i=i: np.squeeze(x.addressable_data(i), 0 if leading else ()), state)
        for i in range(num_devices)
    ]
    return replicas, measured


def leaves_of_all_variants():
    """Every variant's final leaves, by variant and name; the replicas must be one."""
    found = {}
    for variant, backend in itertools.product(VARIANTS, ("pmap", "shard_map")):
        if backend == "shard_map" and VARIANTS[variant][0] == 1:
            continue
        (first, *others), measured = run(variant, backend)
        for path, leaf in jax.tree_util.tree_leaves_with_path(first):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                found[f"{variant}|{backend}|{jax.tree_util.keystr(path)}"] = leaf
        for other in others:
            jax.tree.map(np.testing.assert_array_equal, first, other)
        found[f"{variant}|{backend}|metrics"] = np.array(measured)
    return found


@pytest.fixture(scope="module")
def variants(run_python, tmp_path_factory):
    """Leaves of the final states by variant and name, computed on forced devices."""
    path = tmp_path_factory.mktemp("variants") / "leaves.npz"
    code = (
        "import numpy as np\n"
        "from tests import test_step\n"
        f"np.savez({str(path)!r}, **test_step.leaves_of_all_variants())\n"
    )
    run_python("-c", code, devices=DEVICES)
    found = collections.defaultdict(dict)
    with np.load(path) as content:
        for key, leaf in content.items():
            variant, backend, name = key.split("|")
            found[variant if backend == "pmap" else f"{variant}, {backend}"][name] = leaf
    return found


def distance(one, other):
    """The largest difference of any leaf, relative to the leaf's largest value."""
    assert one.keys() == other.keys()
    assert len(one) >= 10
    return max(np.max(np.abs(one[n] - other[n])) / (1e-3 + np.max(np.abs(one[n]))) for n in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Accumulating is having so many times the devices: dropout and batch norm included.
        ("four devices", "two devices, two parts"),
        ("four devices", "one device, four parts"),
        # Without what depends on the part, it is the large batch.
        ("plain: whole batch", "plain: four parts"),
        # Statistics are those of all examples together, or of each group's.
        ("synced: four devices", "local: one device"),
        ("grouped: four devices", "local: two devices"),
        # Whichever backend maps the step.
        ("four devices", "four devices, shard_map"),
        ("two devices, two parts", "two devices, two parts, shard_map"),
        ("synced: four devices", "synced: four devices, shard_map"),
        ("grouped: four devices", "grouped: four devices, shard_map"),
    ],
)
def test_the_same(one, other, variants):
    assert distance(variants[one], variants[other]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("four devices", "local: four devices"),
        ("local: four devices", "local: two devices"),
        ("local: four devices", "local: one device"),
        ("grouped: four devices", "synced: four devices"),
        ("grouped: four devices", "local: four devices"),
    ],
)
def test_not_the_same(one, other, variants):
    """What the test above compares does differ in other settings."""
    assert distance(variants[one], variants[other]) > 1e-2


def steps(num_steps, **fields):
    """The states of a single device, the first one before any step."""
    state, static = state_and_static(True, None, 0.0, 1, **fields)

    def step(state, batch):
        return train_step(state, batch, **static)

    mapped = parallel.backend().map_replicas(step, donate_state=True)
    state = parallel.backend().replicate(state)
    states = [parallel.backend().first_replica(state)]
    for batch in parallel.backend().to_devices(batches(num_steps)):
        before = state
        state, _ = mapped(state, batch)
        states.append(parallel.backend().first_replica(state))
        # All of the memory is given on, the averages' too.
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    return states, static


def test_averages_of_variables_and_batch_statistics():
    """Against float64: in the first steps the decay is (1 + t) / (10 + t), then the field's."""
    states, _ = steps(6, ema_decay=0.3)
    expected = jax.tree.map(np.float64, (states[0].variables, states[0].model_state))
    decays = []
    for t, state in enumerate(states[1:]):
        decays.append(min(0.3, (1 + t) / (10 + t)))
        last = (state.variables, state.model_state)
        expected = jax.tree.map(
            lambda mean, x, d=decays[-1]: d * mean + (1 - d) * np.float64(x), expected, last
        )
    assert decays == [0.1, 2 / 11, 3 / 12, 0.3, 0.3, 0.3]
    found = states[-1].evaluated()
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    last = jax.tree.leaves((states[-1].variables, states[-1].model_state))
    moved = [np.max(np.abs(a - b)) for a, b in zip(jax.tree.leaves(found), last, strict=True)]
    assert min(moved) > 1e-4


def test_a_run_without_averages_has_none():
    states, _ = steps(1, ema_decay=None)
    assert states[-1].ema is None
    assert states[-1].evaluated() == (states[-1].variables, states[-1].model_state)


@pytest.mark.slow
def test_evaluation_takes_the_averages():
    states, static = steps(4)
    batch = next(iter(parallel.backend().to_devices(batches(1))))
    batch |= {"mask": jnp.ones(batch["label"].shape)}

    def loss(state):
        def step(state, batch):
            return eval_step(
                state.evaluated(), batch, model=static["model"], method=static["method"]
            )

        backend = parallel.backend()
        mapped = backend.map_replicas(step, donate_state=False)
        measured = backend.first_replica(mapped(backend.replicate(state), batch))
        return float(measured.compute()["loss"])

    state = states[-1]
    averages = state.ema
    by_hand = state.replace(
        ema=None, variables=averages.variables, model_state=averages.model_state
    )
    assert loss(state) == pytest.approx(loss(by_hand), rel=1e-6)
    assert abs(loss(state) - loss(state.replace(ema=None))) > 1e-3


def test_averages_of_bfloat16_variables_are_float32():
    """As a base model's own parameters may be, which are stored."""
    state, _ = state_and_static(True, None, 0.0, 1, ema_decay=0.9)
    variables = jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.variables)
    state = state.starting_from(variables, state.model_state)
    assert state.variables["pools"]["u"].dtype == jnp.bfloat16
    assert state.ema.variables["pools"]["u"].dtype == jnp.float32
    assert state.evaluated()[0]["pools"]["u"].dtype == jnp.bfloat16
