"""Layouts, blocks, index stores and modifiers of SMH against independent constructions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smh_jax import Manifest, methods, models
from smh_jax.methods import modifiers, rectangles
from tests.numerics import as_float64, optimized_jit
from tests.test_methods import synthetic_manifest


def generated(method, pools):
    """All unscaled weights in order of creation."""
    return np.concatenate([np.ravel(w) for w in optimized_jit(method.generate)(pools)])


def pools_and_float64(method, seed=0):
    """Initial pools, and the same values in float64 for a reference."""
    pools = jax.jit(method.init_pools)(jax.random.key(seed))
    return pools, as_float64(pools)


def kronecker_reference(method, pools):
    """The official code's pool: a sum of Kronecker products, read row by row."""
    rows, columns = method.matrix_shape
    a_shape, b_shape = rectangles.factor(rows), rectangles.factor(columns)
    return sum(
        np.kron(pools["u"][:, m].reshape(a_shape), pools["v"][m].reshape(b_shape))
        for m in range(method.num_hash_pairs)
    )


@pytest.mark.parametrize("matrix", ["square", "rectangular"])
def test_kronecker_is_a_sum_of_kronecker_products(matrix):
    manifest = synthetic_manifest([500, 1, 130])
    method = methods.create("smh", manifest, target_size=420, layout="kronecker", matrix=matrix)
    assert (len(set(method.matrix_shape)) == 1) == (matrix == "square")
    pools, wide = pools_and_float64(method)
    expected = kronecker_reference(method, wide).ravel()[:631]
    np.testing.assert_allclose(generated(method, pools), expected, rtol=1e-4, atol=1e-5)


def test_kronecker_is_matmul_under_a_permutation():
    d = 5
    manifest = synthetic_manifest([d**4])
    create = {
        layout: methods.create("smh", manifest, target_size=301, layout=layout, matrix="square")
        for layout in ("matmul", "kronecker")
    }
    pools = create["matmul"].init_pools(jax.random.key(0))
    matmul, kronecker = (generated(create[layout], pools) for layout in ("matmul", "kronecker"))
    # Entry ((i, k), (j, l)) of the one is entry ((i, j), (k, l)) of the other.
    i, k, j, l = np.indices((d, d, d, d)).reshape(4, -1)  # noqa: E741
    permutation = ((i * d + j) * d + k) * d + l
    assert sorted(permutation) == list(range(d**4))
    np.testing.assert_array_equal(kronecker, matmul[permutation])
    assert np.any(kronecker != matmul)


@pytest.fixture(scope="module")
def resnet32_convolutions():
    model = models.create("cifar_resnet32", num_classes=10)
    return Manifest.from_model(model, (1, 32, 32, 3), hashed="conv", measure=False)


@pytest.mark.parametrize("pairs", [1, 2, 4, 8, 10, 20, 25, 30, 40, 50, 60, 70, 80])
def test_sizes_of_figure_6(pairs, resnet32_convolutions):
    manifest = resnet32_convolutions
    size = 1458 * pairs + 2922
    fixed = methods.create(
        "smh", manifest, target_size=size, layout="kronecker", matrix="square", scale="fixed"
    )
    assert (fixed.num_variables, fixed.num_hash_pairs) == (size, pairs)
    # Each of the 31 convolutions has one scale.
    learnable = methods.create(
        "smh", manifest, target_size=size + 31, layout="kronecker", matrix="square"
    )
    assert (learnable.num_variables, learnable.num_hash_pairs) == (size + 31, pairs)


@pytest.mark.parametrize("blocks", [2, 3, 7])
def test_blocks_are_independent_products(blocks):
    manifest = synthetic_manifest([300, 211])
    method = methods.create("smh", manifest, target_size=450, blocks=blocks, matrix="square")
    pools, wide = pools_and_float64(method)
    part = -(-511 // blocks)
    side = int(np.ceil(np.sqrt(part)))
    assert pools["u"].shape == (blocks, side, method.num_hash_pairs)
    expected = np.concatenate(
        [(u @ v).ravel()[:part] for u, v in zip(wide["u"], wide["v"], strict=True)]
    )[:511]
    np.testing.assert_allclose(generated(method, pools), expected, rtol=1e-4, atol=1e-5)


def test_blocks_keep_the_relative_rank_at_less_arithmetic():
    manifest = synthetic_manifest([160_000])
    multiply_adds, relative_ranks = [], []
    for blocks in (1, 4):
        method = methods.create("smh", manifest, target_size=32_001, blocks=blocks)
        pools = jax.eval_shape(method.init_pools, jax.random.key(0))
        (product,) = (
            equation
            for equation in jax.make_jaxpr(method.generate)(pools).eqns
            if equation.primitive.name == "dot_general"
        )
        multiply_adds.append(product.outvars[0].aval.size * method.num_hash_pairs)
        relative_ranks.append(method.num_hash_pairs / method.square_size)
    assert relative_ranks == [0.1, 0.1]
    assert multiply_adds[1] * 2 == multiply_adds[0]


def test_a_product_in_bfloat16():
    """The exact product, rounded to 8 bits; pools and their gradients stay in float32."""
    manifest = synthetic_manifest([300, 211])
    method = methods.create("smh", manifest, target_size=250, product_dtype="bfloat16")
    pools, wide = pools_and_float64(method)
    expected = (wide["u"] @ wide["v"]).ravel()[:511]
    weights = generated(method, pools)
    assert weights.dtype == jnp.bfloat16
    np.testing.assert_allclose(weights.astype(np.float64), expected, rtol=2**-8, atol=1e-6)
    assert np.max(np.abs(weights.astype(np.float64) / expected - 1)) > 2**-10
    variables = method.init(jax.random.key(0))
    gradient = jax.grad(lambda v: jnp.sum(method.materialize(v)["w0"] ** 2))(variables)
    for leaf in jax.tree.leaves((method.materialize(variables), gradient)):
        assert leaf.dtype == jnp.float32


def test_rectangular_matrices_hold_the_weights_row_by_row():
    manifest = synthetic_manifest([700, 201])
    method = methods.create("smh", manifest, target_size=410, matrix="rectangular")
    rows, columns = method.matrix_shape
    assert rows > columns
    pools, wide = pools_and_float64(method)
    assert pools["u"].shape == (rows, method.num_hash_pairs)
    expected = (wide["u"] @ wide["v"]).ravel()[:901]
    np.testing.assert_allclose(generated(method, pools), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("index", ["cyclic", "padding"])
def test_fewer_entries_than_weights(index):
    manifest = synthetic_manifest([300, 130])
    method = methods.create(
        "smh", manifest, target_size=200, matrix_size=15, index=index, padding_value=7.0
    )
    pools, wide = pools_and_float64(method)
    entries = (wide["u"] @ wide["v"]).ravel()
    assert entries.size == 225
    if index == "cyclic":
        expected = entries[np.arange(430) % 225]
    else:
        expected = np.concatenate([entries, np.full(205, 7.0)])
    np.testing.assert_allclose(generated(method, pools), expected, rtol=1e-4, atol=1e-5)


def test_more_entries_than_weights_by_choice():
    manifest = synthetic_manifest([100])
    method = methods.create("smh", manifest, target_size=95, matrix_size=15)
    assert method.matrix_shape == (15, 15)
    assert method.num_hash_pairs == 3


def test_channel_scales():
    tensors = (
        ("conv", (3, 3, 2, 5)),
        ("dense", (4, 6)),
        ("bias", (6,)),
        ("scalar", ()),
    )
    manifest = synthetic_manifest([1])
    make = type(manifest.tensors[0])
    manifest = type(manifest)(
        tuple(
            make((name,), shape, "float32", "dense", True, "", manifest.tensors[0].initial)
            for name, shape in tensors
        ),
        "all",
    )
    method = methods.create("smh", manifest, target_size=90, scale_per="channel")
    variables = method.init(jax.random.key(0))
    assert variables["scales"].shape == (5 + 6 + 1 + 1,)
    plain = method.materialize(variables)
    variables["scales"] = jnp.arange(1.0, 14.0)
    scaled = method.materialize(variables)
    factors = {"conv": np.arange(1, 6), "dense": np.arange(6, 12), "bias": 12, "scalar": 13}
    for name, factor in factors.items():
        np.testing.assert_allclose(scaled[name], np.asarray(plain[name]) * factor, rtol=1e-5)


def test_relu_and_sign():
    weights = jnp.asarray([-2.0, -0.5, 0.0, 1.5])
    np.testing.assert_allclose(
        modifiers.relu(weights), np.array([0, 0, 0, 1.5]) / 0.58381937, rtol=1e-5
    )
    np.testing.assert_array_equal(modifiers.sign(weights), [-1, -1, 1, 1])
    straight = jax.grad(lambda w: jnp.sum(modifiers.sign(w) * jnp.arange(4.0)))(weights)
    np.testing.assert_array_equal(straight, np.arange(4.0))
    manifest = synthetic_manifest([900], stddev=0.25)
    binary = methods.create("smh", manifest, target_size=300, modifier="sign", scale="fixed")
    values = np.unique(binary.materialize(binary.init(jax.random.key(0)))["w0"])
    np.testing.assert_array_equal(values, [-0.25, 0.25])


@pytest.mark.parametrize("layout", ["matmul", "kronecker"])
def test_fill_spends_the_sides(layout):
    for num_weights in (30, 97, 461_232):
        smallest = rectangles.smallest_side(num_weights, layout)
        for sides in range(2 * smallest, 2 * smallest + 40, 3):
            rows, columns = rectangles.fill(num_weights, sides, layout)
            assert rows * columns >= num_weights
            assert 2 * smallest <= rows + columns <= sides
            if layout == "matmul":
                assert rows + columns == sides
            else:
                for side in (rows, columns):
                    large, small = rectangles.factor(side)
                    assert large * small == side
                    assert large <= 2 * small
    with pytest.raises(ValueError, match="31 is not a product"):
        rectangles.factor(31)
