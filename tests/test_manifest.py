"""The manifest against what Flax itself says of a model."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smh_jax import Manifest, methods, models
from smh_jax.manifest import init_program, initial_values
from tests.small import TwoLayers

SHAPE = (1, 8, 8, 1)
KEY = jax.random.key(0)
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
    images = jnp.zeros(SHAPE)
    params = jax.eval_shape(lambda: TwoLayers().init(KEY, images, train=False)["params"])
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


def measured(initializer):
    (values,) = initial_values.measure(init_program.trace(lambda key: [initializer(key)]))
    return values


def twice(key, shape):
    """A sum of two draws: no single draw of `jax.random`."""
    first, second = jax.random.split(key)
    return jax.random.normal(first, shape) + jax.random.normal(second, shape)


@jax.jit
def _normal(key):
    """Called as the function behind `jax.random.normal`, and another one."""
    return jax.random.uniform(key, (40, 50))


def numbered(key, shape):
    del key
    return jnp.arange(1.0, 1 + math.prod(shape)).reshape(shape)


@pytest.mark.parametrize(
    ("initializer", "shape", "stddev", "mean", "distribution"),
    [
        (nn.initializers.normal(0.3), (), 0.3, 0.0, "normal"),
        (nn.initializers.normal(0.3), (3, 3, 16, 32), 0.3, 0.0, "normal"),
        (nn.initializers.normal(0.0), (3, 5), 0.0, 0.0, "constant"),
        (
            *(nn.initializers.truncated_normal(2.0), (3, 5)),
            *(2 * math.sqrt(0.7737413), 0.0, "truncated_normal"),
        ),
        (nn.initializers.uniform(6.0), (1,), math.sqrt(3), 3.0, "uniform"),
        (nn.initializers.glorot_uniform(), (20, 30), math.sqrt(2 / 50), 0.0, "uniform"),
        (nn.initializers.lecun_normal(), (3, 3, 16, 8), 1 / 12, 0.0, "truncated_normal"),
        (nn.initializers.orthogonal(2.0), (30, 30), 2 / math.sqrt(30), 0.0, "normal"),
        (twice, (3, 5), math.sqrt(2), 0.0, "normal"),
        (lambda key, shape: _normal(key), (), math.sqrt(1 / 12), 0.5, "uniform"),
        (nn.initializers.zeros, (3, 5), 0.0, 0.0, "constant"),
        (nn.initializers.constant(0.1), (7,), 0.0, 0.1, "constant"),
        (numbered, (3, 5), np.std(np.arange(15)), 8.0, "fixed"),
        (numbered, (1,), 0.0, 1.0, "constant"),
        (nn.initializers.normal(), (0, 3), 0.0, 0.0, "constant"),
    ],
)
def test_measured_initial_values(initializer, shape, stddev, mean, distribution):
    values = measured(lambda key: initializer(key, shape))
    assert values.distribution == distribution
    assert values.stddev == pytest.approx(stddev, rel=0.01)
    assert values.mean == pytest.approx(mean, rel=0.01)


def test_layers_of_equal_programs_and_other_constants_are_measured_apart():
    first, second = np.float32([1, 3]), np.float32([5, 7])
    program = init_program.trace(lambda key: [jnp.asarray(first) * 1.0, jnp.asarray(second) * 1.0])
    assert [values.mean for values in initial_values.measure(program)] == [2.0, 6.0]


def test_standard_initializers_compile_nothing_for_their_shapes():
    """What makes the manifest of an EfficientNet in seconds."""
    manifest = Manifest.from_model(models.create("cifar_resnet8", num_classes=10), (1, 8, 8, 3))
    before = init_program._sample.cache_info()
    wide = models.create("cifar_resnet8", num_classes=11, width_multiplier=1.3)
    with pytest.MonkeyPatch.context() as patch:
        # What compiles a program for each shape must not be called.
        patch.setattr(initial_values, "_draw", None)
        again = Manifest.from_model(wide, (1, 8, 8, 3))
    assert init_program._sample.cache_info().misses == before.misses
    assert manifest.tensors[0].initial.distribution == again.tensors[0].initial.distribution


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


class Params(nn.Module):
    """A dense layer called 'a' alongside parameters of its own.

    Attributes:
        initializers: by the parameters' names; each is called with a key alone.
    """

    initializers: tuple

    @nn.compact
    def __call__(self, images, train):
        for name, initializer in self.initializers:
            self.param(name, initializer)
        return nn.Dense(4, name="a")(images)


def manifest_of(**initializers):
    return Manifest.from_model(Params(tuple(initializers.items())), (1, 3))


@pytest.mark.parametrize(
    ("initializer", "reason"),
    [
        (lambda key: jax.random.normal(key, (5,), jnp.complex64), "complex64 is not a real"),
        (lambda key: jax.random.randint(key, (5,), -9, 9), "int32 is not a real"),
        (lambda key: jnp.zeros(5, jnp.int32), "int32 is not a real"),
        (lambda key: jnp.zeros((0, 7)), "no elements"),
    ],
)
def test_what_cannot_be_hashed_is_stored_with_the_reason(initializer, reason):
    manifest = manifest_of(p=initializer)
    assert [tensor.name for tensor in manifest.hashed] == ["a/kernel", "a/bias"]
    assert reason in manifest.stored[0].reason
    assert Manifest.from_json(manifest.to_json()) == manifest
    method = methods.create("smh", manifest, target_size=manifest.num_stored + 14)
    params = jax.eval_shape(
        lambda: Params((("p", initializer),)).init(KEY, jnp.zeros((1, 3)), train=False)["params"]
    )
    assert jax.eval_shape(lambda p: method.materialize(method.init(KEY, p)), params) == params


def test_two_tensors_of_one_name_are_refused():
    normal = nn.initializers.normal()
    with pytest.raises(ValueError, match=r"2 tensors called 'a/kernel': .* must have no '/'"):
        manifest_of(**{"a/kernel": lambda key: normal(key, (7,))})
    # A name with a slash that no other tensor has is kept as it is.
    assert manifest_of(**{"b/kernel": lambda key: normal(key, (7,))}).offsets["b/kernel"] == 0


def test_a_model_without_parameters_is_refused():
    class Pool(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            return jnp.mean(images)

    with pytest.raises(ValueError, match="Pool has no trainable tensor"):
        Manifest.from_model(Pool(), (1, 3))


def test_partitioned_parameters_are_taken_out_of_their_boxes():
    class Model(nn.Module):
        partition: object

        @nn.compact
        def __call__(self, images, train):
            return nn.Dense(4, kernel_init=self.partition(nn.initializers.normal(0.3)), name="d")(
                images
            )

    boxed = Model(lambda initializer: nn.with_partitioning(initializer, (None, "model")))
    manifest = Manifest.from_model(boxed, (1, 3))
    assert manifest == Manifest.from_model(Model(lambda initializer: initializer), (1, 3))
    params = boxed.init(KEY, jnp.zeros((1, 3)), train=False)["params"]
    assert isinstance(params["d"]["kernel"], nn.Partitioned)
    np.testing.assert_array_equal(
        manifest.leaves(params)["d/kernel"], params["d"]["kernel"].unbox()
    )
    method = methods.create("smh", manifest, target_size=12)
    made = method.materialize(method.init(KEY, params))
    assert boxed.apply({"params": made}, jnp.ones((1, 3)), train=False).shape == (1, 4)


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
