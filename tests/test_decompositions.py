"""Low rank, Tucker-2, tensor train and tensor ring: what they make and how they spend a budget."""

import itertools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tensorly.tr_tensor import tr_to_tensor
from tensorly.tt_tensor import tt_to_tensor
from tensorly.tucker_tensor import tucker_to_tensor

from smh_jax import Manifest, methods, models
from smh_jax.config import OptimizerConfig
from smh_jax.manifest import Tensor
from smh_jax.manifest.initial_values import InitialValues
from smh_jax.methods.tensor_network import balanced_factors
from smh_jax.training import step
from tests.numerics import as_float64, check_derivatives, optimized_jit
from tests.small import TwoLayers

NAMES = ("low_rank", "tucker", "tensor_train", "tensor_ring")
CONV = (3, 3, 16, 32)
# Of each kind: a convolution, one without extent, a depthwise one, a dense layer, a bias, and the
# smallest there is.
SHAPES = (CONV, (1, 1, 24, 10), (3, 3, 1, 40), (35, 12), (3, 3, 17, 19), (10,), (1, 1), (1,))


def manifest_of(shapes, stddev=0.5, dtype="float32", num_stored=0):
    tensors = [
        Tensor((f"w{i}",), s, dtype, "conv", True, "", InitialValues(0.0, stddev, "normal"))
        for i, s in enumerate(shapes)
    ]
    if num_stored:
        ones = InitialValues(1.0, 0.0, "constant")
        tensors.append(
            Tensor(("n",), (num_stored,), dtype, "batch_norm", False, "batch norm", ones)
        )
    return Manifest(tuple(tensors), "all")


def elementwise(network, factors):
    """The contraction by its definition: a sum over the bonds, one term after the other."""
    total = np.zeros([network.sizes[i] for i in network.output])
    for ranks in itertools.product(*(range(network.sizes[b]) for b in network.bonds)):
        at = dict(zip(network.bonds, ranks, strict=True))
        term = np.ones_like(total)
        for indices, factor in zip(network.factors, factors, strict=True):
            piece = factor[tuple(at.get(i, slice(None)) for i in indices)]
            left = [i for i in indices if i not in at]
            order = sorted(left, key=network.output.index)
            piece = np.transpose(piece, [left.index(i) for i in order])
            shape = [network.sizes[i] if i in order else 1 for i in network.output]
            term = term * piece.reshape(shape)
        total += term
    return total


def by_tensorly(name, shape, factors):
    """The kernel by tensorly's reconstruction and hand-written axes; a method's own layout."""
    if len(factors) == 1:
        return factors[0]
    *spatial, inputs, outputs = shape
    k = math.prod(spatial)
    if name == "low_rank":
        a, b = factors
        rows = spatial[:1]
        matrix = tucker_to_tensor(
            (np.eye(b.shape[0]), [a.reshape(-1, a.shape[-1]), b.reshape(b.shape[0], -1).T])
        )
        split = matrix.reshape(*rows, inputs, *spatial[1:], outputs)
        return np.moveaxis(split, len(rows), -2)
    if name == "tucker":
        if len(factors) == 3:
            u, core, v = factors
            return tucker_to_tensor((core, [np.eye(n) for n in spatial] + [u, v.T]))
        a, b = factors
        return tt_to_tensor([a.reshape(1, -1, a.shape[-1]), b.reshape(b.shape[0], -1, 1)]).reshape(
            shape
        )
    ins, outs = balanced_factors(inputs), balanced_factors(outputs)
    if name == "tensor_ring":
        ring = tr_to_tensor(list(factors)).reshape(inputs, k, outputs)
        return ring.transpose(1, 0, 2).reshape(shape)
    length = max(len(ins), len(outs))
    ins = (*ins, *[1] * (length - len(ins)))
    outs = (*outs[::-1], *[1] * (length - len(outs)))
    modes = ([(k, 1)] if k > 1 else []) + list(zip(ins, outs, strict=True))
    cores = []
    for j, (factor, mode) in enumerate(zip(factors, modes, strict=True)):
        first = 1 if j == 0 else factor.shape[0]
        cores.append(factor.reshape(first, math.prod(mode), -1))
    train = tt_to_tensor(cores).reshape([n for mode in modes for n in mode])
    of_in, of_out = range(0, train.ndim, 2), range(1, train.ndim, 2)
    return train.transpose(*of_in, *of_out).reshape(shape)


@pytest.mark.parametrize("name", NAMES)
def test_weights_equal_a_float64_reference_and_tensorly(name):
    manifest = manifest_of(SHAPES)
    method = methods.create(name, manifest, target_size=1500)
    variables = method.init(jax.random.key(0))
    # Scales that all differ, so that no two tensors could be mixed up.
    variables["scales"] = 0.5 + jnp.arange(len(SHAPES), dtype=jnp.float32)
    made = optimized_jit(method.materialize)(variables)
    checked_twice = 0
    for i, shape in enumerate(SHAPES):
        network = method.networks[f"w{i}"]
        factors = as_float64(variables["pools"][f"w{i}"])
        reference = by_tensorly(name, shape, factors)
        if math.prod(network.sizes[bond] for bond in network.bonds) < 4000:
            by_definition = elementwise(network, factors).reshape(shape)
            np.testing.assert_allclose(by_definition, reference, rtol=1e-10, atol=1e-12)
            checked_twice += len(factors) > 1
        reference = reference * 0.5 * (0.5 + i)
        close = {"rtol": 2e-5, "atol": 2e-6 * np.abs(reference).max()}
        np.testing.assert_allclose(made[f"w{i}"], reference, **close)
    assert checked_twice >= 4
    assert [len(method.networks[f"w{i}"].factors) for i in (5, 6, 7)] == [1, 1, 1]


@pytest.mark.parametrize("matrix", ["spatial", "channel"])
def test_low_rank_of_either_matrix(matrix):
    manifest = manifest_of([CONV])
    method = methods.create("low_rank", manifest, target_size=900, matrix=matrix)
    weight = made_by(method)["w0"]
    if matrix == "spatial":
        matrix_of_weight = weight.transpose(0, 2, 1, 3).reshape(48, 96)
        assert method.networks["w0"].shapes == ((3, 16, 6), (6, 3, 32))
    else:
        matrix_of_weight = weight.reshape(144, 32)
        assert method.networks["w0"].shapes == ((3, 3, 16, 5), (5, 32))
    (rank,) = ranks_of(method)
    assert rank_of(matrix_of_weight) == rank


def made_by(method, seed=0):
    init_and_materialize = optimized_jit(lambda key: method.materialize(method.init(key)))
    return as_float64(init_and_materialize(jax.random.key(seed)))


def ranks_of(method):
    network = method.networks["w0"]
    return [network.sizes[bond] for bond in network.bonds]


def rank_of(matrix):
    return np.linalg.matrix_rank(matrix, tol=1e-4 * np.linalg.norm(matrix, 2))


@pytest.mark.parametrize("target", [400, 1500])
def test_tucker_has_its_rank_along_the_channels(target):
    method = methods.create("tucker", manifest_of([CONV]), target_size=target)
    weight = made_by(method)["w0"]
    p, q = ranks_of(method)
    assert 1 < p < 16
    assert 1 < q < 32
    assert method.networks["w0"].shapes == ((16, p), (3, 3, p, q), (q, 32))
    assert rank_of(weight.transpose(2, 0, 1, 3).reshape(16, -1)) == p
    assert rank_of(weight.reshape(-1, 32)) == q
    # Along the positions it is full.
    assert rank_of(weight.reshape(9, -1)) == min(9, p * q)


@pytest.mark.parametrize("target", [300, 1000])
def test_tensor_train_has_its_rank_at_every_cut(target):
    method = methods.create("tensor_train", manifest_of([CONV]), target_size=target)
    # 16 = 4 2 2 beside 32 = 2 4 4.
    assert [s[1:3] for s in method.networks["w0"].shapes[1:]] == [(4, 2), (2, 4), (2, 4)]
    weight = made_by(method)["w0"].reshape(9, 4, 2, 2, 2, 4, 4)
    chain = weight.transpose(0, 1, 4, 2, 5, 3, 6)
    ranks = ranks_of(method)
    assert max(ranks) > 1
    for cut, rank in zip((1, 3, 5), ranks, strict=True):
        assert rank_of(chain.reshape(math.prod(chain.shape[:cut]), -1)) == rank


@pytest.mark.parametrize("target", [150, 700])
def test_tensor_ring_has_the_product_of_two_ranks_at_every_cut(target):
    method = methods.create("tensor_ring", manifest_of([CONV]), target_size=target)
    shapes = method.networks["w0"].shapes
    assert [s[1] for s in shapes] == [4, 2, 2, 9, 4, 4, 2]
    ranks = [s[0] for s in shapes]
    assert [s[2] for s in shapes] == [*ranks[1:], ranks[0]]
    weight = (
        made_by(method)["w0"].reshape(9, 16, 32).transpose(1, 0, 2).reshape(4, 2, 2, 9, 4, 4, 2)
    )
    smaller = 0
    for cut in range(1, 7):
        matrix = weight.reshape(math.prod(weight.shape[:cut]), -1)
        possible = min(*matrix.shape, ranks[0] * ranks[cut])
        assert rank_of(matrix) == possible
        smaller += possible < min(matrix.shape)
    assert smaller > 0


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_equal_finite_differences(name):
    manifest = manifest_of([(3, 3, 8, 12), (12, 10), (10,)], dtype="float64")
    check_derivatives(methods.create(name, manifest, target_size=500), manifest)


@pytest.fixture(scope="module")
def resnet8():
    """The manifest of a ResNet-8, and its params as shapes."""
    model, shape = models.create("cifar_resnet8", num_classes=10), (1, 14, 14, 1)
    init = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), False))
    return Manifest.from_model(model, shape), init["params"]


@pytest.mark.parametrize("name", NAMES)
def test_the_tree_of_init_and_nothing_else(name, resnet8):
    manifest, params = resnet8
    method = methods.create(name, manifest, target_size=12_000)
    assert jax.eval_shape(method.materialize, method.abstract_variables) == params


@pytest.mark.parametrize("name", NAMES)
def test_variables_follow_from_the_key(name):
    shapes = [CONV, (35, 12), (10,)]
    method = methods.create(name, manifest_of(shapes), target_size=2000)
    same = methods.create(name, manifest_of(shapes), target_size=2000)
    first, again = (as_float64(m.init(jax.random.key(3))) for m in (method, same))
    other = as_float64(method.init(jax.random.key(4)))
    leaves = zip(*(jax.tree.leaves(v["pools"]) for v in (first, again, other)), strict=True)
    for a, b, c in leaves:
        np.testing.assert_array_equal(a, b)
        assert np.all(a != c)
    flat = np.concatenate([x.ravel() for x in jax.tree.leaves(first["pools"])])
    assert len(np.unique(np.abs(flat))) > 0.99 * flat.size


@pytest.mark.parametrize(
    ("name", "distribution"),
    list(zip(NAMES, ("normal", "truncated_normal", "uniform", "normal"), strict=True)),
)
def test_unit_variance_before_scaling(name, distribution):
    # Over many draws: that of a single one varies with the few elements of its factors.
    shapes = [(3, 3, 64, 64), (256, 120), (5, 5, 1, 96)]
    method = methods.create(name, manifest_of(shapes), target_size=9000, distribution=distribution)
    assert min(len(n.factors) for n in method.networks.values()) >= 2

    @jax.jit
    def mean_squares(key):
        weights = method.generate(method.init_pools(key))
        return jnp.stack([jnp.mean(jnp.square(w)) for w in weights])

    draws = np.stack([mean_squares(jax.random.key(i)) for i in range(200)])
    error = draws.std(0) / math.sqrt(len(draws))
    # Standard deviations within 3%, where the number of draws can tell.
    assert np.all(error < 0.03)
    np.testing.assert_allclose(np.sqrt(draws.mean(0)), 1.0, atol=0.03)


def brute_force_steps(network):
    """Costs of all networks with one rank more, by hand; the whole tensor where that is less."""
    elements = math.prod(network.sizes[i] for i in network.output)
    for bond in network.bonds:
        touching = [s for s, f in zip(network.shapes, network.factors, strict=True) if bond in f]
        useful = all(math.prod(s) // network.sizes[bond] > network.sizes[bond] for s in touching)
        if useful:
            sizes = {**network.sizes, bond: network.sizes[bond] + 1}
            cost = sum(math.prod(sizes[i] for i in factor) for factor in network.factors)
            yield min(cost, elements)


SIZES = st.sampled_from([1, 2, 3, 4, 6, 7, 8, 13, 16, 24, 31, 32])
KERNELS = st.one_of(
    st.tuples(st.sampled_from([1, 3, 5]), SIZES, SIZES).map(lambda s: (s[0], *s)),
    st.tuples(SIZES, SIZES),
    st.tuples(st.integers(1, 40)),
)


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(
    name=st.sampled_from(NAMES),
    shapes=st.lists(KERNELS, min_size=1, max_size=6),
    num_stored=st.integers(0, 20),
    fraction=st.floats(0.0, 1.0),
    scale=st.sampled_from(["learnable", "fixed"]),
)
def test_the_budget_is_kept_and_no_step_more_would_fit(name, shapes, num_stored, fraction, scale):
    manifest = manifest_of(shapes, num_stored=num_stored)
    options = {"scale": scale}
    beside = num_stored + (len(shapes) if scale == "learnable" else 0)
    with pytest.raises(ValueError, match="target_size=0"):
        methods.create(name, manifest, target_size=0, **options)
    try:
        smallest = methods.create(name, manifest, target_size=1, **options).num_variables
    except ValueError as error:
        hypothesis.assume("smallest possible target is" in str(error))
        smallest = int(str(error).rsplit(" ", 1)[1])
    largest = manifest.num_weights - 1
    hypothesis.assume(smallest <= largest)
    target = round(smallest + fraction * (largest - smallest))
    method = methods.create(name, manifest, target_size=target, **options)
    variables = jax.eval_shape(method.init, jax.random.key(0))
    counted = sum(x.size for x in jax.tree.leaves(variables))
    assert method.num_variables == counted <= target
    assert method.num_variables == beside + sum(n.num_variables for n in method.networks.values())
    if target == smallest:
        assert counted == smallest
    for network, tensor in zip(method.networks.values(), manifest.hashed, strict=True):
        assert network.num_variables <= tensor.size
        for cost in brute_force_steps(network):
            assert cost - network.num_variables > target - counted
    made = jax.eval_shape(method.materialize, variables)
    assert {k: v.shape for k, v in made.items()} == {t.name: t.shape for t in manifest.tensors}
    if smallest > 1:
        with pytest.raises(ValueError, match=f"smallest possible target is {smallest}$"):
            methods.create(name, manifest, target_size=smallest - 1, **options)


@pytest.fixture(scope="module")
def resnet32_manifest():
    model = models.create("cifar_resnet32", num_classes=10)
    return Manifest.from_model(model, (1, 32, 32, 3), measure=False)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_less_than_one_percent_of_the_target_is_left(name, fraction, resnet32_manifest):
    manifest = resnet32_manifest
    target = round(fraction * manifest.num_weights)
    method = methods.create(name, manifest, target_size=target)
    assert 0.99 * target < method.num_variables <= target


@pytest.mark.parametrize("name", NAMES)
def test_equal_layers_get_equal_ranks_up_to_one_step(name):
    method = methods.create(name, manifest_of([CONV] * 7), target_size=5000)
    assert all(len(n.factors) > 1 for n in method.networks.values())
    for network in method.networks.values():
        for bond, rank in network.sizes.items():
            assert abs(rank - method.networks["w0"].sizes[bond]) <= 1


@pytest.mark.parametrize(
    ("number", "factors"),
    [
        *((16, (4, 2, 2)), (32, (4, 4, 2)), (64, (4, 4, 4)), (10, (5, 2)), (1, ())),
        *((17, (17,)), (160, (8, 5, 4)), (1000, (10, 10, 10))),
    ],
)
def test_balanced_factors(number, factors):
    assert balanced_factors(number) == factors


def test_the_training_loss_has_the_methods_penalty(monkeypatch):
    def penalty(self, variables):
        return 0.25 * optax.tree.norm(variables, squared=True)

    model, shape = TwoLayers(), (4, 8, 8, 1)
    manifest = Manifest.from_model(model, shape)
    plain = methods.create("low_rank", manifest, target_size=330)
    config = OptimizerConfig(name="sgd", schedule="constant", learning_rate=1.0, weight_decay=0.0)
    batch = {"image": jnp.ones(shape), "label": jnp.arange(4)}

    def stepped(method):
        optimizer = optax.sgd(1.0)
        state = step.init_state(model, method, optimizer, shape, seed=0)
        one = jax.vmap(
            lambda b: (
                step.train_step(
                    state, b, model=model, method=method, optimizer=optimizer, config=config, seed=0
                )[0].variables
            ),
            axis_name=step.AXIS_NAME,
        )
        return state.variables, jax.jit(one)(jax.tree.map(lambda x: x[jnp.newaxis], batch))

    before, without = stepped(plain)
    monkeypatch.setattr(methods.LowRank, "penalty", penalty)
    _, having = stepped(plain)
    expected = jax.jit(jax.grad(plain.penalty))(before)
    assert float(jnp.abs(expected["scales"]).max()) > 0.01
    for group in ("pools", "scales"):
        difference = jax.tree.map(lambda a, b: (a - b)[0], without[group], having[group])
        jax.tree.map(
            lambda d, e: np.testing.assert_allclose(d, e, rtol=1e-4, atol=1e-6),
            difference,
            expected[group],
        )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("low_rank", {"matrix": "rows"}, "matrix='rows' must be one of spatial, channel"),
        ("tensor_ring", {"target_size": 20}, "smallest possible target is 28"),
        ("low_rank", {"target_size": 144}, "smallest possible target is 145"),
    ],
)
def test_bad_input(name, options, message):
    with pytest.raises(ValueError, match=message):
        methods.create(name, manifest_of([CONV]), **{"target_size": 900, **options})
