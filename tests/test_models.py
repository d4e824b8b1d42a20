"""The base models: counts, order, initial values, randomness, dtypes, errors, and two steps."""

import csv
import functools
import math
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Literal

from smh_jax import Manifest, methods, models
from smh_jax.config import OptimizerConfig
from smh_jax.models import convolution, layers
from smh_jax.training import optim, parallel, step
from tests.numerics import random_like
from tests.small import few_quick

with (Path(__file__).parent / "data" / "model_counts.csv").open() as file:
    COUNTS = list(csv.DictReader(file))
NAMES = tuple(row["model"] for row in COUNTS)
SMALLEST = ("resnet18", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small")
# They repeat the blocks of shallower ones.
DEEP = (
    "cifar_resnet56",
    "resnet34",
    "resnet101",
    "resnet152",
    *(f"efficientnet_b{number}" for number in (1, 3, 4, 5, 6, 7)),
)
# One of each family and of each kind of block.
KINDS = (*SMALLEST, "cifar_resnet20", "resnet50", "mobilenet_v3_large")


def create(name: str, **options) -> nn.Module:
    return models.create(name, num_classes=10 if "cifar" in name else 1000, **options)


@functools.cache
def count(name: str, resolution: int = 32, **options) -> Manifest:
    """A manifest without a weight or a sample allocated."""
    model = create(name, **options)
    return Manifest.from_model(model, (1, resolution, resolution, 3), measure=False)


@functools.cache
def shapes(model: nn.Module, resolution: int = 32) -> dict:
    """The variables' shapes, by `eval_shape`."""
    images = jnp.zeros((1, resolution, resolution, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def tiny(name: str, **options) -> nn.Module:
    return models.create(name, num_classes=3, width_multiplier=0.1, **options)


def modules(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    """The submodules of a kind in the order in which they run, by tracing."""
    found = []

    def record(call, args, kwargs, context):
        if isinstance(context.module, kind):
            found.append(context.module)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        shapes.__wrapped__(model)
    return found


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row["model"], marks=[pytest.mark.slow] * (row["model"] in DEEP))
        for row in COUNTS
    ],
)
def test_counts(row):
    expected = {key: int(value) for key, value in row.items() if key != "model"}
    assert models.default_resolution(row["model"]) == expected["resolution"]
    manifest = count(row["model"], expected["resolution"])

    def size(choose) -> int:
        return sum(tensor.size for tensor in manifest.tensors if choose(tensor))

    def is_kernel(tensor) -> bool:
        return tensor.layer == "conv" and tensor.path[-1] == "kernel"

    def is_depthwise(tensor) -> bool:
        return is_kernel(tensor) and tensor.shape[2] == 1

    measured = {
        "resolution": expected["resolution"],
        "conv": size(lambda t: is_kernel(t) and not is_depthwise(t)),
        "depthwise": size(is_depthwise),
        "conv_bias": size(lambda t: t.layer == "conv" and not is_kernel(t)),
        "dense_and_bias": size(lambda t: t.layer == "dense"),
        "bn_affine": size(lambda t: t.layer == "batch_norm"),
        "hashable": manifest.num_hashed,
        "total": manifest.num_weights,
        "hashable_tensors": len(manifest.hashed),
        "matrix_dim": math.ceil(math.sqrt(manifest.num_hashed)),
    }
    assert measured == expected


def test_every_counted_model_can_be_chosen_by_name():
    assert set(NAMES) <= set(models.names())
    # tests/test_transformers.py counts the others.
    transformers = {name for name in models.names() if name.startswith(("vit", "gpt2"))}
    others = {"cifar_resnet8", "cifar_resnet110", *transformers}
    assert set(models.names()) - set(NAMES) == others


@pytest.mark.parametrize(
    ("name", "width_multiplier", "expected"),
    few_quick(
        [
            ("mobilenet_v2", 0.35, 1_677_128),
            ("mobilenet_v2", 0.5, 1_968_680),
            ("mobilenet_v2", 0.75, 2_636_424),
            ("mobilenet_v2", 1.4, 6_108_776),
            ("mobilenet_v3_large", 0.75, 3_993_528),
            ("mobilenet_v3_large", 0.5, 2_689_904),
            ("mobilenet_v3_small", 0.75, 2_041_872),
            ("mobilenet_v3_small", 0.5, 1_593_224),
        ],
        1,
    ),
)
def test_published_width_multipliers(name, width_multiplier, expected):
    assert count(name, width_multiplier=width_multiplier).num_weights == expected


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "cifar_resnet20"])
def test_a_width_multiplier_scales_every_filter_of_a_resnet(name):
    half = count(name, width_multiplier=0.5).tensors
    for tensor, full in zip(half, count(name).tensors, strict=True):
        # All but kernel sides, the colours and the classes.
        expected = [size if size in (1, 3, 7, 10, 1000) else size // 2 for size in full.shape]
        assert list(tensor.shape) == expected


def test_efficientnet_rounds_a_multiplied_width_once():
    # 320 * 1.1 * 0.5 = 176 is a multiple of 8; 352 / 2 of rounded widths would be, too, but
    # 24 * 1.1 * 0.5 = 13.2 is 16 (8 would be more than 10% too small) and 24 / 2 is not.
    assert layers.make_divisible(24 * 1.1, 0.5) == 16
    model = create("efficientnet_b2", width_multiplier=0.5)
    params = shapes(model)["params"]
    assert params["stage2_block1"]["project"]["conv"]["kernel"].shape[-1] == 16
    assert params["stage7_block1"]["project"]["conv"]["kernel"].shape[-1] == 176


@pytest.mark.parametrize(
    ("width", "multiplier", "expected"),
    [(16, 1.0, 16), (3, 1.0, 8), (32, 0.35, 16), (12, 1.0, 16), (11, 1.0, 16), (19, 1.0, 24)],
)
def test_make_divisible(width, multiplier, expected):
    assert layers.make_divisible(width, multiplier) == expected


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in SMALLEST)) for name in NAMES],
)
def test_creation_order_is_the_order_of_first_use(name):
    model = create(name)
    variables = shapes(model)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    program = jax.make_jaxpr(functools.partial(model.apply, train=False))(variables, images)
    flat, _ = jax.tree_util.tree_flatten_with_path((variables, images))
    names = {
        variable: jax.tree_util.keystr(path[2:], simple=True, separator="/")
        for (path, _), variable in zip(flat, program.jaxpr.invars, strict=True)
        if path[1:] and path[1].key == "params"
    }
    used = [
        names[variable]
        for equation in program.jaxpr.eqns
        for variable in equation.invars
        if not isinstance(variable, Literal) and variable in names
    ]
    order = count(name, models.default_resolution(name)).tensors
    assert list(dict.fromkeys(used)) == [tensor.name for tensor in order]


@pytest.mark.parametrize("name", few_quick(SMALLEST, 1))
def test_initial_values(name):
    model = create(name)
    roles = {
        # Layers of one role have one initializer; the last is the one with the most weights.
        module.path[1:] if len(module.path) > 2 else module.path: module
        for module in modules(model, nn.Conv) + modules(model, nn.Dense)
    }
    tensors = {t.path: t for t in Manifest.from_model(model, (1, 32, 32, 3)).tensors}
    for module in roles.values():
        kernel = tensors[*module.path, "kernel"]
        measured = kernel.initial
        *area, _, outputs = (1, 1, *kernel.shape)
        if name.startswith("mobilenet"):
            # Truncated at two standard deviations.
            expected = ("truncated_normal", 0.09 * 0.87963)
        elif isinstance(module, nn.Conv):
            fan_out = math.prod(area) * (1 if "depthwise" in module.path else outputs)
            expected = ("normal", math.sqrt(2 / fan_out))
        elif name.startswith("efficientnet"):
            # Within 1 / sqrt(1000).
            expected = ("uniform", 1 / math.sqrt(1000) / math.sqrt(3))
        else:
            expected = ("normal", 0.01)
        assert measured.distribution == expected[0], module.path
        assert measured.stddev == pytest.approx(expected[1], rel=0.02), module.path
        if module.use_bias:
            bias = tensors[*module.path, "bias"].initial
            assert (bias.distribution, bias.mean) == ("constant", 0.0)


@pytest.mark.parametrize(
    ("name", "last", "blocks"),
    [("resnet18", "conv2", 8), ("resnet50", "conv3", 16), ("efficientnet_b0", "", 0)],
)
def test_the_last_batch_norm_of_a_resnet_block_starts_at_zero(name, last, blocks):
    scales = {
        n.path: n.scale_init(None, (), "float32") for n in modules(create(name), nn.BatchNorm)
    }
    scales = {path: float(scale) for path, scale in scales.items()}
    assert set(scales.values()) <= {0.0, 1.0}
    assert [path[1] for path, scale in scales.items() if scale == 0] == [last] * blocks


@pytest.mark.parametrize("name", few_quick(KINDS, 2))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_computes_in_the_dtype_and_keeps_float32_outside(name, dtype):
    model = create(name, dtype=dtype)
    variables = shapes(model)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    apply = functools.partial(model.apply, train=False)
    program, logits = jax.make_jaxpr(apply, return_shape=True)(variables, images)
    assert (logits.shape, logits.dtype) == ((2, model.num_classes), jnp.float32)
    products = [
        operand.aval.dtype.name
        for equation in program.jaxpr.eqns
        if equation.primitive.name in ("conv_general_dilated", "dot_general")
        for operand in equation.invars
    ]
    assert set(products) == {dtype}


@pytest.mark.parametrize("name", few_quick(KINDS, 1))
def test_every_batch_norm_has_the_options(name):
    model = create(name, bn_momentum=0.7, bn_epsilon=0.01, dtype="bfloat16", axis_name="devices")
    norms = modules(model, nn.BatchNorm)
    assert len(norms) == len([t for t in count(name).tensors if t.path[-1] == "scale"])
    settings = {(n.momentum, n.epsilon, n.dtype, n.axis_name) for n in norms}
    assert settings == {(0.7, 0.01, "bfloat16", "devices")}


RANDOM = (
    ("efficientnet_b0", "dropout_rate"),
    ("efficientnet_b0", "stochastic_depth_rate"),
    ("mobilenet_v2", "dropout_rate"),
    ("mobilenet_v3_small", "dropout_rate"),
)


@pytest.mark.parametrize(("name", "rate"), few_quick(RANDOM, 1))
def test_evaluation_is_not_random(name, rate):
    """It needs no key, and its program is the one without any dropping."""

    def program(model: nn.Module) -> str:
        images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
        return str(jax.make_jaxpr(functools.partial(model.apply, train=False))(variables, images))

    variables = shapes(create(name))
    assert program(create(name, **{rate: 0.5})) == program(create(name, **{rate: 0.0}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rate"),
    # Each way of dropping in the model that compiles fastest.
    [
        ("efficientnet_b0", "dropout_rate"),
        ("efficientnet_b0", "stochastic_depth_rate"),
        ("mobilenet_v2", "dropout_rate"),
        ("mobilenet_v3_small", "dropout_rate"),
    ],
)
def test_training_follows_the_key(name, rate):
    rates = {other: 0.0 for random, other in RANDOM if random == name}
    model = tiny(name, **{**rates, rate: 0.5})
    if name == "efficientnet_b0":
        # Fewer blocks compile faster.
        model = model.clone(depth_coefficient=0.5)
    key = jax.random.key(0)
    # Values of any sort: initialising would have to be compiled, too.
    images = random_like(jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32), seed=1)
    variables = random_like(shapes(model))

    @jax.jit
    def logits(key: jax.Array) -> jax.Array:
        rngs = {"dropout": key}
        return model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)[0]

    np.testing.assert_array_equal(logits(key), logits(key))
    assert not np.array_equal(logits(key), logits(jax.random.key(1)))


def test_stochastic_depth_rates_rise_linearly_and_only_beside_a_skip():
    drops = modules(create("efficientnet_b0"), nn.Dropout)
    rates = {drop.path[0]: drop.rate for drop in drops if drop.name == "stochastic_depth"}
    # B0 has 16 blocks; the first of a stage has no skip, as its shape changes.
    expected = {
        "stage2_block2": 2,
        "stage3_block2": 4,
        "stage4_block2": 6,
        "stage4_block3": 7,
        "stage5_block2": 9,
        "stage5_block3": 10,
        "stage6_block2": 12,
        "stage6_block3": 13,
        "stage6_block4": 14,
    }
    assert rates == {name: pytest.approx(0.2 * i / 16) for name, i in expected.items()}


def test_stochastic_depth_drops_whole_examples_and_rescales_the_others():
    def block(rate: float) -> nn.Module:
        return layers.InvertedResidual(
            4,
            expanded_filters=8,
            kernel_size=3,
            stride=1,
            activation=nn.relu,
            norm=functools.partial(nn.BatchNorm, use_running_average=True),
            conv_init=nn.initializers.lecun_normal(),
            depthwise_init=nn.initializers.lecun_normal(),
            dtype="float32",
            stochastic_depth_rate=rate,
        )

    x = jax.random.normal(jax.random.key(0), (64, 5, 5, 4))
    variables = block(0.0).init(jax.random.key(1), x, train=False)
    branch = block(0.0).apply(variables, x, train=False) - x
    y = block(0.75).apply(variables, x, train=True, rngs={"dropout": jax.random.key(2)}) - x
    dropped = np.array([not example.any() for example in y])
    assert 30 <= dropped.sum() <= 60
    np.testing.assert_allclose(y[~dropped], branch[~dropped] / 0.25, rtol=1e-4, atol=1e-5)


def test_input_resolution_up_samples_the_images():
    images = jax.random.normal(jax.random.key(1), (2, 8, 6, 3))
    larger = jax.image.resize(images, (2, 10, 10, 3), "bilinear")
    model = tiny("cifar_resnet8")
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)

    def logits(model: nn.Module, images: jax.Array) -> jax.Array:
        return jax.jit(functools.partial(model.apply, train=False))(variables, images)

    expected = logits(model, larger)
    np.testing.assert_allclose(logits(model.clone(input_resolution=10), images), expected, 1e-5)


@pytest.mark.parametrize("name", few_quick(KINDS, 1))
def test_every_family_can_up_sample(name):
    up_sampled = models.count_multiply_adds(create(name, input_resolution=64), (1, 32, 32, 3))
    assert up_sampled == models.count_multiply_adds(create(name), (1, 64, 64, 3))


def test_options_of_a_variant():
    assert models.default_options("efficientnet_b3")["dropout_rate"] == 0.3
    assert models.default_options("efficientnet_b0")["dropout_rate"] == 0.2
    assert models.create("efficientnet_b7", num_classes=2).dropout_rate == 0.5
    assert models.create("efficientnet_b7", num_classes=2, dropout_rate=0.1).dropout_rate == 0.1
    for name in models.names():
        options = models.default_options(name)
        assert {"width_multiplier", "dtype"} <= set(options)
        is_transformer = name.startswith(("vit", "gpt2"))
        assert ({"bn_momentum", "bn_epsilon"} <= set(options)) != is_transformer
        assert not {"num_classes", "axis_name", "stage_sizes", "blocks"} & set(options)
        assert ("depth" in options) == is_transformer
        hash(models.create(name, num_classes=2, **options))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("efficientnet_b8", {}, r"name='efficientnet_b8' is unknown.*efficientnet_b\d"),
        ("resnet_50", {}, r"name='resnet_50' is unknown.*resnet50"),
        ("mobilenet_v3", {}, r"name='mobilenet_v3' is unknown.*mobilenet_v3_(large|small)"),
        ("cifar_resnet21", {}, "depth 21 is not 6n [+] 2.*cifar_resnet20 and cifar_resnet26"),
        ("resnet50", {"dropout_rate": 0.1}, "resnet50 has no option 'dropout_rate'.*bn_momentum"),
        ("efficientnet_b1", {"width_coefficient": 2.0}, "has no option 'width_coefficient'"),
        ("resnet50", {"dtype": "float16"}, "dtype='float16' must be one of float32, bfloat16"),
        ("mobilenet_v2", {"dropout_rate": 1.0}, "dropout_rate=1.0 must be at least 0 and below 1"),
        (
            "efficientnet_b0",
            {"stochastic_depth_rate": -0.1},
            "stochastic_depth_rate=-0.1 must be at least 0",
        ),
    ],
)
def test_bad_names_and_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        create(name, **options)


@pytest.mark.parametrize("num_classes", [0, -1])
def test_bad_number_of_classes(num_classes):
    with pytest.raises(ValueError, match=f"num_classes={num_classes} must be at least 1"):
        models.create("resnet50", num_classes=num_classes)


@pytest.mark.parametrize("name", ["cifar_resnet8", *SMALLEST])
@pytest.mark.parametrize("width_multiplier", [0.0, -1.0, 1e-4])
def test_a_width_without_channels(name, width_multiplier):
    if width_multiplier > 0 and not name.endswith(("resnet8", "resnet18")):
        # The rounding to multiples of 8 keeps 8 channels of everything.
        assert count(name, width_multiplier=width_multiplier).num_weights > 0
        return
    with pytest.raises(ValueError, match=f"width_multiplier={width_multiplier} leaves no channel"):
        count(name, width_multiplier=width_multiplier)


@pytest.mark.parametrize("name", ["cifar_resnet8", *SMALLEST])
@pytest.mark.parametrize("swap", [False, True])
def test_a_resolution_below_the_total_stride(name, swap):
    stride = 4 if name.startswith("cifar") else 32
    model = create(name)
    init = functools.partial(model.init, train=False)
    key = jax.random.key(0)
    assert jax.eval_shape(init, key, jnp.zeros((1, stride, stride, 3)))
    shape = (1, stride, stride - 1, 3) if swap else (1, stride - 1, stride, 3)
    with pytest.raises(ValueError, match=f"too small for a total stride of {stride}; each side"):
        jax.eval_shape(init, key, jnp.zeros(shape))


def test_an_input_resolution_that_shrinks_the_images():
    model = create("mobilenet_v2", input_resolution=48)
    assert shapes(model, 48)
    with pytest.raises(ValueError, match="input_resolution=48 would shrink the images of 64x64"):
        shapes(model, 64)


# Generated and dense, in each dtype. Other models have more of the same blocks, or these with
# another activation; tests/test_recipes.py lowers their steps.
STEPS = (
    ("resnet18", "smh", "float32"),
    ("efficientnet_b0", "smh", "float32"),
    ("cifar_resnet20", "dense", "bfloat16"),
    ("resnet50", "smh", "bfloat16"),
    ("mobilenet_v2", "dense", "float32"),
    ("mobilenet_v3_small", "smh", "bfloat16"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method_name", "dtype"), STEPS)
def test_two_steps(name, method_name, dtype):
    # Fewer blocks compile faster.
    fewer = {"depth_coefficient": 0.5} if name == "efficientnet_b0" else {}
    model = tiny(name, dtype=dtype).clone(**fewer)
    manifest = Manifest.from_model(
        tiny(name).clone(**fewer), (1, 32, 32, 3), measure=method_name == "smh"
    )
    target = None if method_name == "dense" else manifest.num_weights * 3 // 4
    method = methods.create(method_name, manifest, target_size=target)
    config = OptimizerConfig(learning_rate=1.0)
    optimizer = optim.create(
        config, optim.learning_rate(config, batch_size=4, steps_per_epoch=1, num_steps=4)
    )
    state = first = step.init_state(model, method, optimizer, (1, 32, 32, 3), seed=0)
    state = parallel.backend().replicate(state)
    train_step = parallel.backend().map_replicas(
        functools.partial(
            step.train_step,
            model=model,
            method=method,
            optimizer=optimizer,
            config=config,
            seed=0,
        ),
        donate_state=False,
    )
    rng = np.random.default_rng(0)
    devices = jax.local_device_count()
    batch = {
        "image": rng.normal(size=(devices, 4, 32, 32, 3)).astype(np.float32),
        "label": rng.integers(0, 3, (devices, 4)),
    }
    for _ in range(2):
        state, _ = train_step(state, batch)
    last = parallel.backend().first_replica(state)
    assert last.step == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(last))
    # Variables of every group and the statistics have moved, but what is behind a batch-norm scale
    # that started at 0 moves only a little in the second step.
    for part in ("variables", "model_state"):
        moved = jax.tree.map(
            lambda before, after: not np.array_equal(before, after),
            getattr(first, part),
            getattr(last, part),
        )
        for group in moved.values():
            fraction = np.mean(jax.tree.leaves(group))
            assert fraction > 0.8, (part, moved)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    few_quick(
        [
            (2, 3, 1, ((1, 1), (1, 1))),
            (1, 3, 1, "SAME"),
            (2, 3, 2, ((1, 1), (1, 1))),
            (3, 5, 2, "SAME"),
            (4, 7, 2, ((3, 3), (3, 3))),
        ],
        1,
    ),
)
def test_a_kernel_larger_than_the_image_is_the_same_convolution(side, kernel, stride, padding):
    random = np.random.default_rng(0)
    images = jnp.float32(random.normal(size=(2, side, side, 3)))
    weights = jnp.float32(random.normal(size=(kernel, kernel, 3, 4)))
    how = {"feature_group_count": 1, "dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def ours(images, weights):
        return convolution.conv(images, weights, (stride, stride), padding, **how)

    def xla(images, weights):
        strides = (stride, stride)
        return jax.lax.conv_general_dilated(images, weights, strides, padding, **how)

    assert "conv_general_dilated" not in str(jax.make_jaxpr(ours)(images, weights))
    (result, gradients), (expected, theirs) = (jax.vjp(f, images, weights) for f in (ours, xla))
    np.testing.assert_allclose(result, expected, 1e-4, 1e-4)
    for mine, other in zip(gradients(expected), theirs(expected), strict=True):
        np.testing.assert_allclose(mine, other, 1e-4, 1e-3)
    large = jnp.zeros((1, kernel, kernel, 3))
    assert "conv_general_dilated" in str(jax.make_jaxpr(ours)(large, weights))
