"""The hash functions: golden values, statistics, and the weights that they choose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smh_jax import methods
from smh_jax.methods.multi_hash import hash_function, shares
from tests.test_methods import synthetic_manifest
from tests.test_smh import generated, pools_and_float64

MASK = 0xFFFFFFFF


def murmur(x):
    """MurmurHash3's finalizer in plain integers."""
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & MASK
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & MASK
    return x ^ (x >> 16)


def reference_hash(k, index, seed=0):
    key = murmur((murmur((seed + 0x9E3779B9) & MASK) ^ (k * 0x85EBCA6B + 1)) & MASK)
    return murmur((murmur(index ^ key) + murmur(key ^ 0x27D4EB2F)) & MASK)


def test_golden_values():
    """The same on every machine and version: checkpoints depend on them."""
    found = {
        (k, seed): np.asarray(hash_function(k, 1_000_000, 3, seed)).tolist()
        for k, seed in ((0, 0), (1, 0), (9, 0), (0, 7))
    }
    assert found == GOLDEN


def test_hash_equals_plain_integers():
    for k, seed in ((0, 0), (3, 0), (10, 5)):
        found = np.asarray(jax.jit(hash_function, static_argnums=(0, 1, 2, 3))(k, 17, 500, seed))
        assert found.dtype == np.uint32
        assert found.tolist() == [reference_hash(k, i, seed) for i in range(17, 517)]


def chi_squared(counts):
    """(statistic - degrees of freedom) / its standard deviation: about normal if uniform."""
    counts = np.asarray(counts, np.float64).ravel()
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return (np.sum((counts - expected) ** 2) / expected - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize("buckets", [64, 1000, 4093])
def test_each_mapping_is_uniform(buckets):
    for k in range(10):
        hashes = np.asarray(hash_function(k, 0, 400_000)) % buckets
        assert abs(chi_squared(np.bincount(hashes, minlength=buckets))) < 5


def test_mappings_are_pairwise_independent():
    hashes = [np.asarray(hash_function(k, 0, 400_000)) % 61 for k in range(10)]
    for one in range(10):
        for other in range(one):
            joint = np.bincount(hashes[one] * 61 + hashes[other], minlength=61 * 61)
            assert abs(chi_squared(joint)) < 5
    # The statistic does see a dependence: the official code's shared mapping.
    same = np.bincount(hashes[0] * 61 + hashes[0], minlength=61 * 61)
    assert chi_squared(same) > 1000


def test_neighbouring_indices_are_independent():
    hashes = np.asarray(hash_function(0, 0, 400_001)) % 61
    joint = np.bincount(hashes[:-1] * 61 + hashes[1:], minlength=61 * 61)
    assert abs(chi_squared(joint)) < 5


def test_one_hash_collides_as_theory_says():
    weights, pool, shared = 20_000, 10_000, []
    for seed in range(20):
        hashes = np.asarray(hash_function(0, 0, weights, seed)) % pool
        shared.append(np.mean(np.bincount(hashes, minlength=pool)[hashes] > 1))
    expected = 1 - (1 - 1 / pool) ** (weights - 1)
    error = np.std(shared, ddof=1) / np.sqrt(len(shared))
    assert abs(np.mean(shared) - expected) < 3 * error
    assert 0.8 < expected < 0.9


def test_two_hashes_collide_fully_as_theory_says():
    weights, pool, pairs = 20_000, 1000, []
    for seed in range(20):
        one, other = (np.asarray(hash_function(k, 0, weights, seed)) % pool for k in (0, 1))
        counts = np.bincount(one.astype(np.int64) * pool + other)
        pairs.append(np.sum(counts * (counts - 1) / 2))
    expected = weights * (weights - 1) / 2 / pool**2
    error = np.std(pairs, ddof=1) / np.sqrt(len(pairs))
    assert abs(np.mean(pairs) - expected) < 3 * error
    # A single hash into as many variables collides a thousand times as often.
    assert expected < weights * (weights - 1) / 2 / pool / 100


@pytest.mark.parametrize("reducer", ["sum", "product"])
@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("num_hashes", [1, 2, 10])
def test_weights_equal_a_float64_reference(num_hashes, signs, reducer):
    manifest = synthetic_manifest([300, 1, 97])
    method = methods.create(
        "multi_hash",
        manifest,
        target_size=150,
        num_hashes=num_hashes,
        signs=signs,
        reducer=reducer,
        hash_seed=3,
    )
    pools, wide = pools_and_float64(method)
    sizes = method.pool_sizes[0]
    assert sum(sizes) == 147
    assert max(sizes) - min(sizes) <= 1
    starts = np.cumsum([0, *sizes])
    expected = []
    for index in range(398):
        values = []
        for k, size in enumerate(sizes):
            value = wide[starts[k] + reference_hash(k, index, 3) % size]
            if signs and reference_hash(k + num_hashes, index, 3) >> 31:
                value = -value
            values.append(value)
        expected.append(sum(values) if reducer == "sum" else np.prod(values))
    np.testing.assert_allclose(generated(method, pools), expected, rtol=1e-4, atol=1e-5)


def test_per_layer_pools_are_the_tensors_own():
    manifest = synthetic_manifest([300, 100, 1])
    method = methods.create("multi_hash", manifest, target_size=207, num_hashes=2, per_layer=True)
    assert [sum(sizes) for sizes in method.pool_sizes] == [150, 51, 3]
    pools = method.init_pools(jax.random.key(0))

    def weight_sum(pools, tensor):
        return jnp.sum(method.generate(pools)[tensor])

    for tensor, (start, end) in enumerate(((0, 150), (150, 201), (201, 204))):
        touched = np.flatnonzero(jax.grad(weight_sum)(pools, tensor))
        assert touched.min() >= start
        assert touched.max() < end
        assert len(touched) > 0.6 * min(end - start, 2 * manifest.tensors[tensor].size)


def test_indices_are_neither_variables_nor_constants_of_the_program():
    manifest = synthetic_manifest([2_000_000])
    method = methods.create("multi_hash", manifest, target_size=200_000, num_hashes=2)
    variables = jax.eval_shape(method.init, jax.random.key(0))
    assert method.num_variables == 200_000
    traced = jax.make_jaxpr(method.materialize)(variables)
    assert sum(np.size(constant) for constant in traced.consts) == 0
    compiled = jax.jit(method.materialize).lower(variables).compile()
    # An index tensor in the program would be 8 MB.
    assert len(compiled.as_text()) < 200_000
    assert compiled.memory_analysis().generated_code_size_in_bytes < 1_000_000


def test_shares_add_up():
    assert shares(100, [1, 1, 2], 2) == [25, 26, 49]
    assert sum(shares(1001, [3, 5, 7, 11], 1)) == 1001
    assert shares(4, [1000, 1], 2) == [2, 2]


GOLDEN = {
    (0, 0): [1921947106, 2306752613, 3066288538],
    (1, 0): [919344120, 966901325, 1444130944],
    (9, 0): [2435928732, 1708658540, 3063418059],
    (0, 7): [4161475410, 3047325492, 1166031781],
}
