"""Pools in fewer bits: values, errors, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smh_jax.methods import rounding as quantization
from tests.small import few_quick

SHAPES = [(274, 12), (12, 274), (3, 5, 7), (1000,), (1, 1)]
quantize = jax.jit(quantization.quantize, static_argnums=1)
dequantize = jax.jit(quantization.dequantize)
round_to = jax.jit(quantization.round_to, static_argnums=1)
LARGEST = {"int8": 128, "int4": 8, "int3": 4, "int2": 2}
BY_ROWS = ("int8", "int4", "int3", "int2")


def draw(shape, seed=0):
    """Normal values whose rows are of very different magnitudes."""
    random = np.random.default_rng(seed)
    magnitudes = 10.0 ** random.uniform(-3, 1, shape[:1] + (1,) * (len(shape) - 1))
    return (magnitudes * random.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("number", few_quick(range(len(SHAPES)), 2))
@pytest.mark.parametrize("precision", BY_ROWS)
def test_error_is_no_more_than_that_of_rounding_to_the_largest_magnitude(number, precision):
    shape = SHAPES[number]
    array = draw(shape)
    quantized = quantize(array, precision)
    assert quantized.shape == shape
    if precision != "int4":
        assert (quantized.values.dtype, quantized.values.size) == (jnp.int8, array.size)
    else:
        assert (quantized.values.dtype, quantized.values.size) == (jnp.uint8, -(-array.size // 2))
    assert quantized.scales.shape == (quantization.num_rows(shape),)
    restored = np.asarray(dequantize(quantized))
    # The rows and the rounding, written out once more, in float64.
    size = quantization.row_size(shape)
    for start in range(0, array.size, size):
        row = array.ravel()[start : start + size].astype(np.float64)
        step = np.abs(row).max() / (LARGEST[precision] - 0.5)
        plain = np.round(row / step).clip(-LARGEST[precision], LARGEST[precision] - 1) * step
        error = np.square(restored.ravel()[start : start + size] - row).sum()
        assert error <= np.square(plain - row).sum() * (1 + 1e-4) + 1e-12
    if array.size > 1:
        assert np.any(restored != array)


def test_clipping_lowers_the_error_of_four_bits():
    array = draw((64, 512))
    restored = round_to(array, "int4")
    step = np.abs(array).max(axis=1, keepdims=True) / 7.5
    plain = np.round(array / step).clip(-8, 7) * step
    assert np.square(restored - array).sum() < 0.8 * np.square(plain - array).sum()


@pytest.mark.parametrize("shape", [*SHAPES, (81,), (2, 80)])
def test_scales_are_at_most_a_twentieth_of_the_integers(shape):
    size = quantization.row_size(shape)
    assert size >= 80
    assert quantization.num_rows(shape) == -(-np.prod(shape) // size)
    if len(shape) > 1:
        assert size % shape[-1] == 0
        assert size < 80 + shape[-1]


def test_rows_of_zeros_come_back():
    array = np.zeros((200, 100), np.float32)
    array[3] = 1.0
    for precision in BY_ROWS:
        restored = round_to(array, precision)
        np.testing.assert_allclose(restored, array, rtol=1 / LARGEST[precision])


@pytest.mark.parametrize(("precision", "largest"), [("bfloat16", 0.004), ("int8", 0.01),
                                                    ("int4", 0.15)])  # fmt: skip
def test_fake_quantization_has_the_stored_values_and_the_gradient_of_the_identity(
    precision, largest
):
    array = jnp.asarray(draw((60, 90)))

    def function(x):
        return jnp.sum(jnp.sin(quantization.fake_quantize(x, precision)))

    rounded = round_to(array, precision)
    error = np.linalg.norm(rounded - array) / np.linalg.norm(array)
    assert 1e-5 < error < largest
    np.testing.assert_allclose(
        quantization.fake_quantize(array, precision), rounded, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(jax.jit(jax.grad(function))(array), np.cos(rounded), atol=1e-5)


def test_full_precision_is_the_array_itself():
    array = draw((60, 90))
    np.testing.assert_array_equal(round_to(array, "float32"), array)


def test_arrays_keep_their_dtype():
    array = jnp.asarray(draw((60, 90)), jnp.bfloat16)
    for precision in quantization.PRECISIONS:
        assert round_to(array, precision).dtype == jnp.bfloat16


@pytest.mark.parametrize("size", [1, 8, 81])
def test_two_integers_of_four_bits_share_a_byte(size):
    integers = np.random.default_rng(0).integers(-8, 8, size).astype(np.int8)
    low = [0x0F & (int(i) + 8) for i in integers]
    # The scale is 1: an element of the row needs all eight steps below 0 and none is between two.
    integers[0], low[0] = -8, 0
    quantized = quantization.Quantized(
        np.array([a | (b << 4) for a, b in zip(low[0::2], [*low[1::2], 0], strict=False)], "u1"),
        np.ones(quantization.num_rows((size,)), np.float32),
        (size,),
        "int4",
    )
    np.testing.assert_array_equal(dequantize(quantized), integers)
    again = quantize(integers.astype(np.float32), "int4")
    np.testing.assert_allclose(dequantize(again), integers, atol=0.51)


def test_ternary_rows_are_multiples_of_their_scale_and_zero():
    array = draw((64, 512))
    quantized = quantize(array, "ternary")
    assert set(np.unique(quantized.values)) == {-1, 0, 1}
    scales = np.asarray(quantized.scales)[:, np.newaxis]
    np.testing.assert_array_equal(
        dequantize(quantized), scales * np.asarray(quantized.values).reshape(array.shape)
    )
    # Better than signs alone, whose best scale is the mean magnitude.
    signs = np.sign(array) * np.abs(array).mean(axis=1, keepdims=True)
    assert np.square(dequantize(quantized) - array).sum() < np.square(signs - array).sum()


@pytest.mark.parametrize("step", [0.125, 0.5, 1.5])
def test_coded_pools_are_multiples_of_a_share_of_their_root_mean_square(step):
    array = np.random.default_rng(0).normal(size=(60, 90)).astype(np.float32)
    quantized = quantize(array, f"coded:{step}")
    (scale,) = quantized.scales
    # The file holds the scale in bfloat16, of eight bits.
    root = np.sqrt(np.mean(np.square(array.astype(np.float64))))
    assert scale == pytest.approx(step * root, rel=2**-8)
    assert scale == jnp.asarray(scale, jnp.bfloat16).astype(jnp.float32)
    expected = np.round(array.astype(np.float64) / float(scale)) * float(scale)
    np.testing.assert_allclose(dequantize(quantized), expected, rtol=1e-6, atol=1e-6)
    assert np.abs(expected - array).max() > 0.4 * step


def test_the_variance_of_a_pruned_channel_leaves_the_others_theirs():
    variances = jnp.asarray([95.0, 8.0, 0.28, 0.02, 1.8e-36, 0.0])
    restored = np.asarray(quantization.dequantize(quantization.quantize_small(variances)))
    np.testing.assert_allclose(restored[:4], variances[:4], rtol=0.05)
    # Less than what is added to every variance (1e-5): no other number is divided by it.
    assert np.all(restored[4:] < 1e-5)
    nothing = quantization.quantize_small(jnp.zeros(3))
    assert nothing.precision == "linear8"
    np.testing.assert_array_equal(quantization.dequantize(nothing), np.zeros(3))


@pytest.mark.parametrize("kind", ["linear8", "log8"])
def test_small_numbers_keep_their_eight_bits_when_they_are_stored_again(kind):
    array = np.random.default_rng(0).normal(size=50).astype(np.float32)
    array = np.exp(2 * array) if kind == "log8" else array
    once = quantization.quantize_small(jnp.asarray(array))
    assert once.precision == kind
    restored = quantization.dequantize(once)
    again = quantization.quantize_small(restored)
    np.testing.assert_array_equal(once.values, again.values)
    np.testing.assert_array_equal(once.scales, again.scales)
    if kind == "log8":
        np.testing.assert_allclose(restored, array, rtol=0.03)
    else:
        np.testing.assert_allclose(restored, array, atol=np.abs(array).max() / 250)
    assert np.any(restored != array)


@pytest.mark.parametrize(
    "precision", ["coded:0", "coded:", "coded:x", "coded:nan", "int4:0.5", "5"]
)
def test_precisions_that_are_none(precision):
    with pytest.raises(ValueError, match=f"precision='{precision}'"):
        quantization.parse(precision)
