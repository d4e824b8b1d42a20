"""Every method: what it makes, what it costs, and what it refuses."""

import dataclasses
import functools
import itertools
import math
from unittest import mock

import hypothesis
import hypothesis.strategies as st
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from smh_jax import Manifest, methods, models
from smh_jax.manifest import Tensor
from smh_jax.manifest.initial_values import InitialValues
from smh_jax.methods import distributions
from tests.numerics import check_derivatives, optimized_jit
from tests.small import TwoLayers

SHAPE = (1, 8, 8, 1)
MODELS = {
    "two_layers": (TwoLayers(), SHAPE, 300),
    "cifar_resnet14_narrow": (
        models.create("cifar_resnet14", num_classes=7, width_multiplier=0.5),
        (1, 8, 8, 3),
        6_000,
    ),
}


@functools.cache
def manifest_of(model_name, **options):
    model, shape, _ = MODELS[model_name]
    return Manifest.from_model(model, shape, **options)


@pytest.fixture(scope="module")
def params():
    """Initial params of `TwoLayers`."""
    init = jax.jit(lambda key: TwoLayers().init(key, jnp.zeros(SHAPE), train=False)["params"])
    return init(jax.random.key(5))


def synthetic_manifest(sizes, num_stored=0, stddev=0.5, distribution="normal", dtype="float32"):
    """A manifest of hashed vectors of the given sizes besides one stored vector."""
    initial = InitialValues(0.0, stddev, distribution)
    tensors = [
        Tensor((f"w{i}",), (n,), dtype, "dense", True, "", initial) for i, n in enumerate(sizes)
    ]
    if num_stored:
        ones = InitialValues(1.0, 0.0, "constant")
        tensors.append(
            Tensor(("norm",), (num_stored,), dtype, "batch_norm", False, "batch norm", ones)
        )
    return Manifest(tuple(tensors), "all")


# Every method in the settings that change what it computes. The decompositions, which need tensors
# of several axes, have their own tests.
DECOMPOSITIONS = {"low_rank", "tucker", "tensor_train", "tensor_ring"}
VARIANTS = {
    "dense": ("dense", {}),
    "smh": ("smh", {}),
    "smh_square": ("smh", {"matrix": "square"}),
    "smh_rectangular": ("smh", {"matrix": "rectangular"}),
    "smh_kronecker": ("smh", {"layout": "kronecker", "matrix": "square"}),
    "smh_kronecker_rectangular": ("smh", {"layout": "kronecker", "matrix": "rectangular"}),
    "smh_blocks": ("smh", {"blocks": 3}),
    "smh_channels": ("smh", {"scale_per": "channel"}),
    "smh_window": ("smh_window", {"first": 7}),
    "hash_1": ("multi_hash", {}),
    "hash_2_signs": ("multi_hash", {"num_hashes": 2, "signs": True}),
    "hash_3_product": ("multi_hash", {"num_hashes": 3, "reducer": "product"}),
    "hash_2_per_layer": ("multi_hash", {"num_hashes": 2, "per_layer": True}),
    "combined": ("combined", {}),
    "combined_product": ("combined", {"reducer": "product"}),
}
GENERATING = [variant for variant in VARIANTS if variant != "dense"]


def create(manifest, variant, target_size, **options):
    name, own = VARIANTS[variant]
    return methods.create(
        name, manifest, target_size=None if name == "dense" else target_size, **own, **options
    )


def test_every_method_has_a_variant():
    assert {name for name, _ in VARIANTS.values()} | DECOMPOSITIONS == set(methods.names())


@pytest.mark.parametrize(
    ("model_name", "name"),
    [
        *(("two_layers", name) for name in VARIANTS),
        *(("cifar_resnet14_narrow", name) for name in ("dense", "smh")),
    ],
)
def test_materialize_gives_the_tree_of_init(name, model_name):
    model, shape, target_size = MODELS[model_name]
    method = create(manifest_of(model_name), name, target_size)
    key = jax.random.key(0)
    init = jax.eval_shape(lambda: model.init(key, jnp.zeros(shape), train=False)["params"])
    assert jax.eval_shape(lambda: method.materialize(method.init(key))) == init


@pytest.mark.parametrize("name", VARIANTS)
def test_a_method_is_static_and_its_variables_follow_from_the_key(name):
    manifest = manifest_of("two_layers")
    method = create(manifest, name, 300)
    same = create(manifest, name, 300)
    assert method == same
    assert hash(method) == hash(same)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.target_size = 7

    def flat(draw, seed):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(draw(seed))])

    draw, draw_again = (
        jax.jit(lambda seed, m=m: m.init(jax.random.key(seed))) for m in (method, same)
    )
    drawn = flat(draw, 3)
    np.testing.assert_array_equal(drawn, flat(draw_again, 3))
    assert np.mean(drawn != flat(draw, 4)) > 0.8 * (name != "dense")
    assert method.num_variables == drawn.size
    assert set(method.abstract_variables) <= set(methods.GROUPS)


@pytest.mark.parametrize("name", ["dense", "smh", "hash_1"])
def test_stored_tensors_take_the_models_own_values(name, params):
    method = create(manifest_of("two_layers", hashed="conv"), name, 380)
    taken = method.init(jax.random.key(1), params)["stored"]["m_dense/kernel"]
    np.testing.assert_array_equal(taken, params["m_dense"]["kernel"])
    drawn = method.init(jax.random.key(1))["stored"]["m_dense/kernel"]
    assert np.all(drawn != taken)
    assert float(jnp.std(drawn)) == pytest.approx(float(jnp.std(taken)), rel=0.2)


def test_no_two_purposes_draw_alike():
    """What is stored, the halves of a product and the parts of a combination."""
    tensors = synthetic_manifest([400, 400, 400]).tensors
    tensors = [*tensors[:2], dataclasses.replace(tensors[2], hashed=False)]
    options = {"parts": ("smh:matrix=square", "smh:matrix=square"), "scale": "fixed"}
    method = methods.create("combined", Manifest(tuple(tensors), "all"), target_size=700, **options)
    values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(method.init(jax.random.key(0)))])
    # Up to the factors of each pool.
    ratios = values[:-1] / values[1:]
    assert len(np.unique(np.round(np.abs(ratios), 5))) > 0.97 * ratios.size


def test_stored_values_that_nothing_describes_are_refused():
    manifest = synthetic_manifest([50], num_stored=4)
    fixed = dataclasses.replace(manifest.tensors[1], initial=InitialValues(1.0, 2.0, "fixed"))
    manifest = dataclasses.replace(manifest, tensors=(manifest.tensors[0], fixed))
    method = methods.create("smh", manifest, target_size=40)
    with pytest.raises(ValueError, match="norm are fixed"):
        method.init(jax.random.key(0))


def test_dense_is_the_identity(params):
    manifest = manifest_of("two_layers")
    method = methods.create("dense", manifest)
    materialized = method.materialize(method.init(jax.random.key(1), params))
    jax.tree.map(np.testing.assert_array_equal, materialized, params)
    assert method.num_variables == manifest.num_weights
    assert method.manifest.num_hashed == 0


def smh_reference(method, variables):
    """The weights by the paper's equations, in float64, one element at a time in effect."""
    u = np.asarray(variables["pools"]["u"], np.float64)
    v = np.asarray(variables["pools"]["v"], np.float64)
    matrix = np.zeros((u.shape[0], v.shape[1]))
    for pair in range(u.shape[1]):
        matrix += np.outer(u[:, pair], v[pair, :])
    side, position, leaves = matrix.shape[1], 0, {}
    scales = np.asarray(variables.get("scales", []), np.float64)
    for index, tensor in enumerate(method.manifest.hashed):
        places = position + np.arange(tensor.size)
        scale = scales[index] if scales.size else 1.0
        constant = tensor.initial.stddev if tensor.initial.stddev > 0 else 1.0
        values = matrix[places // side, places % side] * constant * scale
        leaves[tensor.name] = values.reshape(tensor.shape)
        position += tensor.size
    return leaves


@pytest.mark.parametrize(
    ("model_name", "scale"),
    [
        ("two_layers", "learnable"),
        ("two_layers", "fixed"),
        ("cifar_resnet14_narrow", "learnable"),
    ],
)
def test_smh_equals_a_float64_reference(model_name, scale):
    target_size = MODELS[model_name][2]
    manifest = manifest_of(model_name)
    method = methods.create("smh", manifest, target_size=target_size, scale=scale)
    variables = method.init(jax.random.key(0))
    if scale == "learnable":
        # Scales that all differ, so that no two tensors could be mixed up.
        variables["scales"] = 0.5 + jnp.arange(len(method.manifest.hashed), dtype=jnp.float32)
    leaves = method.manifest.leaves(optimized_jit(method.materialize)(variables))
    reference = smh_reference(method, variables)
    assert set(reference) == {t.name for t in method.manifest.hashed}
    for name, values in reference.items():
        np.testing.assert_allclose(
            leaves[name], values, rtol=2e-5, atol=2e-6 * np.abs(values).max()
        )


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        *((variant, {}) for variant in GENERATING),
        *(("smh", {"distribution": name}) for name in distributions.NAMES),
        ("smh", {"modifier": "relu"}),
        ("smh", {"modifier": "sign"}),
        ("combined", {"parts": ("multi_hash", "multi_hash:hash_seed=1", "smh:blocks=2")}),
    ],
    ids=str,
)
def test_initial_deviation_of_each_generated_tensor(variant, options):
    manifest = synthetic_manifest([9000, 20_000, 30_000], stddev=0.25)
    method = create(manifest, variant, 30_000, **options)

    @jax.jit
    def variances(keys):
        # The mean over draws, as pools far smaller than the weights repeat their own deviation.
        def draw(key):
            leaves = manifest.leaves(method.materialize(method.init(key)))
            return jnp.stack([jnp.var(leaf) for leaf in leaves.values()])

        return jnp.mean(jax.lax.map(draw, keys), axis=0)

    deviations = np.sqrt(variances(jax.random.split(jax.random.key(0), 16)))
    np.testing.assert_allclose(deviations, 0.25, rtol=0.03)


@pytest.mark.parametrize("name", distributions.NAMES)
def test_distributions_have_unit_variance_and_their_range(name):
    values = np.asarray(distributions.sample(name, jax.random.key(0), (200_000,)), np.float64)
    assert np.std(values) == pytest.approx(1.0, rel=0.01)
    assert np.mean(values) == pytest.approx(0.0, abs=0.01)
    limit = {"uniform": math.sqrt(3), "truncated_normal": 2 / math.sqrt(0.7737413)}.get(name)
    if limit is None:
        assert np.abs(values).max() > 4
    else:
        assert 0.99 * limit < np.abs(values).max() <= limit * (1 + 1e-6)


@pytest.mark.parametrize("distribution", distributions.NAMES)
def test_the_pools_match_the_range_of_the_initializers(distribution):
    manifest = synthetic_manifest([400, 300], distribution=distribution)
    method = methods.create("smh", manifest, target_size=200)
    assert method.pool_distribution == distribution
    other = methods.create("smh", manifest, target_size=200, distribution="uniform")
    assert other.pool_distribution == "uniform"


def test_zero_initialised_tensors():
    manifest = manifest_of("two_layers")
    learnable = methods.create("smh", manifest, target_size=300)
    variables = learnable.init(jax.random.key(0))

    def loss(variables):
        leaves = manifest.leaves(learnable.materialize(variables))
        return jnp.sum(leaves["m_dense/bias"]), leaves

    gradients, leaves = jax.jit(jax.grad(loss, has_aux=True))(variables)
    assert not np.any(leaves["m_dense/bias"])
    assert np.any(leaves["m_dense/kernel"])
    gradient = gradients["scales"]
    index = [t.name for t in manifest.hashed].index("m_dense/bias")
    assert gradient[index] != 0
    assert np.count_nonzero(gradient) == 1

    fixed = methods.create("smh", manifest, target_size=300, scale="fixed")
    reasons = {t.name: t.reason for t in fixed.manifest.stored}
    assert "fixed scale" in reasons["m_dense/bias"]
    assert "scales" not in fixed.init(jax.random.key(0))
    assert fixed.num_variables <= 300


@pytest.mark.parametrize("name", GENERATING)
def test_derivatives_equal_finite_differences(name):
    manifest = synthetic_manifest([72, 8, 128], num_stored=5, dtype="float64")
    check_derivatives(create(manifest, name, 140), manifest)


def test_gradients_have_the_dtype_of_the_variables():
    method = methods.create("smh", synthetic_manifest([300]), target_size=200)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), method.init(jax.random.key(0)))
    gradient = jax.grad(lambda v: jnp.sum(method.materialize(v)["w0"]))(half)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("bfloat16")}


def test_tiny_updates_of_bfloat16_pools_add_up():
    manifest = synthetic_manifest([300])
    method = methods.rounded(methods.create("smh", manifest, target_size=200), "bfloat16")
    variables = method.init(jax.random.key(0))
    before = method.materialize(variables)["w0"]
    # Each is a hundredth of what a bfloat16 of this size can tell.
    update = jax.tree.map(lambda x: 2**-8 / 100 * x, variables)
    for _ in range(500):
        variables = optax.apply_updates(variables, update)
    after = method.materialize(variables)["w0"]
    # Both factors and the scale have grown.
    growth = float(jnp.vdot(after, before) / jnp.vdot(before, before))
    assert growth == pytest.approx((1 + 5 * 2**-8) ** 3, rel=0.01)


SIZES = st.one_of(
    st.lists(st.integers(1, 4000), min_size=1, max_size=8),
    # A single tensor, one-element tensors, prime sizes.
    st.integers(30, 5000).map(lambda n: [n]),
    st.tuples(st.integers(50, 4000), st.integers(1, 6)).map(lambda t: [t[0]] + [1] * t[1]),
    st.sampled_from([[2003], [1009, 1], [7, 11, 13, 997]]),
)


def undrawn():
    """A context in which pools have their shapes alone: tracing draws takes long."""
    return mock.patch.object(distributions, "sample", lambda _, key, shape: jnp.zeros(shape))


def smallest_target(method_name, manifest, options):
    """What the error for a target of 1 says; 1 if there is none."""
    try:
        methods.create(method_name, manifest, target_size=1, **options)
    except ValueError as error:
        return int(str(error).partition("smallest possible target is ")[2])
    return 1


MIXED = ("multi_hash:num_hashes=2", "multi_hash:per_layer=true,hash_seed=1", "smh:layout=kronecker")


@hypothesis.settings(max_examples=150)
@hypothesis.given(
    variant=st.sampled_from([*GENERATING, "mixed"]),
    sizes=SIZES,
    num_stored=st.integers(0, 50),
    fraction=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]),
    scale=st.sampled_from(["learnable", "fixed"]),
)
@undrawn()
def test_the_budget_is_kept_on_any_manifest(variant, sizes, num_stored, fraction, scale):
    manifest = synthetic_manifest(sizes, num_stored)
    name, options = {**VARIANTS, "mixed": ("combined", {"parts": MIXED})}[variant]
    options = options | {"scale": scale}
    hypothesis.assume(options.get("blocks", 1) ** 2 <= sum(sizes) > 1)
    largest = manifest.num_weights - 1
    smallest = smallest_target(name, manifest, options)
    hypothesis.assume(smallest <= largest)
    target = round(smallest + fraction * (largest - smallest))
    method = methods.create(name, manifest, target_size=target, **options)
    variables = jax.eval_shape(method.init, jax.random.key(0))
    assert method.num_variables == sum(x.size for x in jax.tree.leaves(variables)) <= target
    params = jax.eval_shape(method.materialize, variables)
    assert [params[t.name].shape for t in manifest.tensors] == [t.shape for t in manifest.tensors]
    if name == "multi_hash":
        assert method.num_variables == target
    wanted = f"smallest possible target is {smallest}" if smallest > 1 else "must be a positive"
    with pytest.raises(ValueError, match=wanted):
        methods.create(name, manifest, target_size=smallest - 1, **options)


@hypothesis.settings(max_examples=100)
@hypothesis.given(
    sizes=SIZES,
    num_stored=st.integers(0, 50),
    fraction=st.floats(0.0, 1.0),
    layout=st.sampled_from(["matmul", "kronecker"]),
    blocks=st.integers(1, 5),
)
@undrawn()
def test_smh_misses_the_budget_by_less_than_it_says(sizes, num_stored, fraction, layout, blocks):
    manifest = synthetic_manifest(sizes, num_stored)
    hypothesis.assume(blocks**2 <= sum(sizes))
    n = math.ceil(math.sqrt(math.ceil(sum(sizes) / blocks)))
    if layout == "kronecker":
        n = math.ceil(math.sqrt(n)) ** 2
    smallest = 2 * n * blocks + num_stored + len(sizes)
    largest = manifest.num_weights - 1
    hypothesis.assume(smallest <= largest)
    target = round(smallest + fraction * (largest - smallest))

    def create(matrix):
        return methods.create(
            "smh", manifest, target_size=target, layout=layout, blocks=blocks, matrix=matrix
        )

    square, rectangular, auto = map(create, ("square", "rectangular", "auto"))
    assert target - 2 * n * blocks < square.num_variables <= target
    assert square.num_variables <= rectangular.num_variables <= target
    if layout == "matmul":
        assert target - blocks * rectangular.num_hash_pairs < rectangular.num_variables
    wanted = square if square.num_variables >= 0.99 * target else rectangular
    assert auto.num_variables == wanted.num_variables
    rows, columns = rectangular.matrix_shape
    assert rows * columns >= math.ceil(sum(sizes) / blocks)


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_rounding_loses_less_than_a_hundredth_of_the_target(depth):
    model = models.create(f"cifar_resnet{depth}", num_classes=10)
    manifest = Manifest.from_model(model, (1, 32, 32, 3), measure=False)
    for layout, percent in itertools.product(("matmul", "kronecker"), (2, 5, 10, 25, 50)):
        target = manifest.num_weights * percent // 100
        method = methods.create("smh", manifest, target_size=target, layout=layout)
        assert 0.99 * target <= method.num_variables <= target, (layout, percent)


def test_options_that_old_runs_recorded_at_their_defaults_are_taken():
    manifest = manifest_of("two_layers")
    for name, retired in (
        ("smh", {"precision": "default"}),
        ("tensor_ring", {"max_rank": 0, "channel_factors": 3}),
    ):
        old = methods.create(name, manifest, target_size=330, **retired)
        assert old == methods.create(name, manifest, target_size=330)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smhh", {"target_size": 100}, "did you mean smh"),
        (
            "smh",
            {"target_size": 100, "layuot": 1},
            "option 'layuot' of method smh is unknown; did you mean layout",
        ),
        ("smh", {"target_size": 500}, "not smaller than the model's 500 weights"),
        ("smh", {"target_size": None}, "must be a positive number"),
        (
            "smh",
            {"target_size": 100, "scale": "none"},
            "scale='none' must be one of learnable, fixed",
        ),
        ("smh", {"target_size": 100, "distribution": "cauchy"}, "normal, truncated_normal"),
        ("smh", {"target_size": 100, "layout": "kron"}, "must be one of matmul, kronecker"),
        ("smh", {"target_size": 100, "blocks": 0}, "blocks=0 must be a whole number of at least 1"),
        ("smh", {"target_size": 400, "blocks": 24}, "blocks=24 must be at most 23, the rows"),
        ("smh", {"target_size": 100, "matrix_size": 20}, "gives 400 entries for 500 weights"),
        (
            "smh",
            {"target_size": 200, "matrix_size": 24, "layout": "kronecker"},
            "matrix_size=24 must be a square number",
        ),
        (
            "smh",
            {"target_size": 100, "pool_dtype": "bfloat16"},
            "option 'pool_dtype' .* is unknown",
        ),
        ("smh", {"target_size": 100, "precision": "high"}, "option 'precision' .* is unknown"),
        ("smh", {"target_size": 100, "modifier": "tanh"}, "must be one of none, relu, sign"),
        ("smh", {"target_size": 100, "scale_per": "row"}, "must be one of tensor, channel"),
        ("multi_hash", {"target_size": 100, "num_hashes": 0}, "num_hashes=0 must be a whole"),
        ("multi_hash", {"target_size": 100, "num_hashes": 2.0}, "num_hashes=2.0 must be a whole"),
        ("multi_hash", {"target_size": 100, "reducer": "max"}, "must be one of sum, product"),
        ("multi_hash", {"target_size": 10, "num_hashes": 10}, "smallest possible target is 11"),
        ("combined", {"target_size": 100, "reducer": "max"}, "must be one of sum, product"),
        ("combined", {"target_size": 200, "parts": ("smh",)}, "at least two methods"),
        ("combined", {"target_size": 200, "parts": ("smh", "dense")}, "'dense' has no pools"),
        (
            "combined",
            {"target_size": 200, "parts": ("smh", "smh:block=2")},
            "argument 'block' is unknown",
        ),
        ("combined", {"target_size": 200, "parts": ("smh", "smh:blocks=x")}, "must be of type int"),
        ("combined", {"target_size": 50}, "smallest possible target is 93"),
        *(
            (
                "combined",
                {"target_size": 200, "parts": ("smh", f"low_rank:matrix=channel,{option}=1")},
                f"'low_rank:.*' cannot have '{option}'",
            )
            for option in ("scale", "scale_per", "modifier")
        ),
        (
            "combined",
            {"target_size": 200, "parts": ("multi_hash:hash_seed=1", "multi_hash:hash_seed=1")},
            "hash_seed is 1, 1 and must differ",
        ),
        ("dense", {"target_size": 100}, "must be None for method 'dense'"),
    ],
)
def test_bad_input(name, options, message):
    with pytest.raises(ValueError, match=message):
        methods.create(name, synthetic_manifest([500]), **options)


def test_the_backward_pass_is_one_concatenate():
    manifest = synthetic_manifest(list(range(60, 120)))
    method = methods.create("smh", manifest, target_size=1500)
    variables = method.init(jax.random.key(0))

    def program(generate):
        def loss(variables):
            pieces = generate(variables["pools"])
            return sum(jnp.sum(piece**2) for piece in pieces)

        backward = jax.grad(loss)
        equations = _equations(jax.make_jaxpr(backward)(variables).jaxpr)
        lowered = jax.jit(backward).lower(variables).as_text()
        return equations, lowered

    def sliced(pools):
        # The trap: what a slice per tensor would do.
        flat, position, pieces = jnp.ravel(pools["u"] @ pools["v"]), 0, []
        for tensor in manifest.hashed:
            pieces.append(flat[position : position + tensor.size])
            position += tensor.size
        return pieces

    equations, lowered = program(method.generate)
    assert equations.count("concatenate") == 1
    assert equations.count("pad") == 0
    assert "stablehlo.pad" not in lowered
    equations, lowered = program(sliced)
    assert equations.count("pad") == len(manifest.hashed)
    assert "stablehlo.pad" in lowered


def _equations(jaxpr):
    names = []
    for equation in jaxpr.eqns:
        names.append(equation.primitive.name)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            names += _equations(inner)
    return names
