"""The manifest against what Flax itself says of a model."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smh_jax import Manifest, models
from smh_jax.manifest import initial_values
from tests.small import TwoLayers

SHAPE = (1, 8, 8, 1)
NAMES = [
    "z_conv/kernel",
    "z_conv/bias",
    "norm/scale",
    "norm/bias",
    "m_dense/kernel",
    "m_dense/bias",
    "a_dense/kernel",
    "a_dense/bias",
]


@pytest.fixture(scope="module")
def manifest():
    return Manifest.from_model(TwoLayers(), SHAPE)


def test_order_is_that_of_creation(manifest):
    assert [tensor.name for tensor in manifest.tensors] == NAMES
    # The order would differ if it were read outside of the trace.
    assert sorted(NAMES) != NAMES


def test_tensors_are_those_of_init(manifest):
    params = TwoLayers().init(jax.random.key(0), jnp.zeros(SHAPE), train=False)["params"]
    leaves = manifest.leaves(params)
    assert [leaves[t.name].shape for t in manifest.tensors] == [t.shape for t in manifest.tensors]
    assert {leaves[t.name].dtype.name for t in manifest.tensors} == {"float32"}
    assert manifest.num_weights == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert jax.tree.structure(manifest.tree(leaves)) == jax.tree.structure(params)


def test_layers_and_offsets(manifest):
    layers = {tensor.name: tensor.layer for tensor in manifest.tensors}
    assert layers["z_conv/bias"] == "conv"
    assert layers["norm/scale"] == "batch_norm"
    assert layers["a_dense/kernel"] == "dense"
    assert manifest.offsets == {
        "z_conv/kernel": 0,
        "z_conv/bias": 72,
        "m_dense/kernel": 80,
        "m_dense/bias": 208,
        "a_dense/kernel": 224,
        "a_dense/bias": 384,
    }
    assert manifest.num_hashed == 394
    assert manifest.num_stored == 16


@pytest.mark.parametrize(
    ("hashed", "names"),
    [
        ("all", {n for n in NAMES if not n.startswith("norm")}),
        ("conv", {"z_conv/kernel", "z_conv/bias"}),
        ("kernels", {"z_conv/kernel", "m_dense/kernel", "a_dense/kernel"}),
        ("dense/bias", {"m_dense/bias", "a_dense/bias"}),
        (".*", {n for n in NAMES if not n.startswith("norm")}),
    ],
)
def test_hashed_sets(hashed, names):
    manifest = Manifest.from_model(TwoLayers(), SHAPE, hashed=hashed, measure=False)
    assert {tensor.name for tensor in manifest.hashed} == names
    assert {tensor.name for tensor in manifest.stored} == set(NAMES) - names
    assert all(tensor.reason for tensor in manifest.stored)


@pytest.mark.parametrize(
    ("hashed", "message"),
    [("nothing_like_it", "matches no tensor"), ("norm", "matches no tensor"), ("(", "neither one")],
)
def test_a_hashed_set_that_cannot_be(hashed, message):
    with pytest.raises(ValueError, match=message) as error:
        Manifest.from_model(TwoLayers(), SHAPE, hashed=hashed, measure=False)
    assert repr(hashed) in str(error.value)


def test_json_round_trip_hash_and_digest(manifest):
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert hash(again) == hash(manifest)
    assert again.digest == manifest.digest
    other = manifest.store({"a_dense/bias": "a test"})
    assert other.digest != manifest.digest
    assert other != manifest
    with pytest.raises(ValueError, match="not the JSON text"):
        Manifest.from_json('{"tensors": [{}], "hashed_set": "all"}')


def test_same_tensors(manifest):
    unmeasured = Manifest.from_model(TwoLayers(), SHAPE, hashed="conv", measure=False)
    assert unmeasured != manifest
    assert math.isnan(unmeasured.tensors[0].initial.stddev)
    assert manifest.same_tensors(unmeasured)
    assert not manifest.same_tensors(Manifest.from_model(TwoLayers(9), SHAPE, measure=False))
    backwards = Manifest(manifest.tensors[::-1], "all")
    assert not manifest.same_tensors(backwards)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (3, 3, 16, 32)], ids=str)
@pytest.mark.parametrize(
    ("initializer", "stddev", "mean", "distribution"),
    [
        (nn.initializers.normal(0.3), 0.3, 0.0, "normal"),
        (nn.initializers.truncated_normal(2.0), 2 * math.sqrt(0.7737413), 0.0, "truncated_normal"),
        (nn.initializers.uniform(6.0), math.sqrt(3), 3.0, "uniform"),
        (nn.initializers.zeros, 0.0, 0.0, "constant"),
        (nn.initializers.constant(0.1), 0.0, 0.1, "constant"),
        (lambda key, shape: jnp.arange(math.prod(shape)).reshape(shape) + 1.0, None, None, None),
    ],
)
def test_measured_initial_values(initializer, shape, stddev, mean, distribution):
    measured = initial_values.measure(lambda key: initializer(key, shape))
    if stddev is None:
        values = np.arange(math.prod(shape)) + 1.0
        stddev, mean = values.std(), values.mean()
        distribution = "fixed" if values.size > 1 else "constant"
    assert measured.distribution == distribution
    assert measured.stddev == pytest.approx(stddev, rel=0.01)
    assert measured.mean == pytest.approx(mean, rel=0.01)


def test_layers_of_equal_programs_and_other_constants_are_measured_apart():
    def of(values):
        constant = np.asarray(values, np.float32)
        return initial_values.measure(lambda key: jnp.asarray(constant) * 1.0)

    assert of([1.0, 3.0]).mean == 2.0
    assert of([5.0, 7.0]).mean == 6.0


def test_initial_values_that_no_pool_can_start_are_stored():
    class Shifted(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            x = nn.Dense(4, bias_init=nn.initializers.ones, name="dense")(images)
            return nn.LayerNorm(name="norm")(x)

    manifest = Manifest.from_model(Shifted(), (1, 3))
    reasons = {tensor.name: tensor.reason for tensor in manifest.tensors}
    assert reasons["dense/kernel"] == ""
    assert "average to 0" in reasons["dense/bias"]
    assert "average to 0" in reasons["norm/scale"]


def test_lifted_layers_are_measured_through_the_whole_model():
    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            layer = nn.scan(
                lambda layer, x, _: (layer(x), None),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=5,
            )
            return layer(
                nn.Dense(8, kernel_init=nn.initializers.normal(0.2), name="d"), images, None
            )

    manifest = Manifest.from_model(Scanned(), (1, 8))
    kernel = next(t for t in manifest.tensors if t.path[-1] == "kernel")
    assert kernel.shape == (5, 8, 8)
    assert kernel.initial.stddev == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize(
    ("depth", "total"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)]
)
def test_counts_of_cifar_resnets(depth, total):
    model = models.create(f"cifar_resnet{depth}", num_classes=10)
    manifest = Manifest.from_model(model, (1, 32, 32, 3), measure=False)
    assert manifest.num_weights == total
    batch_norm = 2 * (16 + 2 * sum((16, 32, 64)) * (depth - 2) // 6)
    assert manifest.num_stored == batch_norm
    assert manifest.num_hashed == total - batch_norm
