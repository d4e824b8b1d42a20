"""Pools in fewer bits: values, errors, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smh_jax.artifact import quantization

SHAPES = [(274, 12), (12, 274), (3, 5, 7), (1000,), (1, 1), (81,), (2, 80)]
LARGEST = {"int8": 128, "int4": 8}


def draw(shape, seed=0):
    """Normal values whose rows are of very different magnitudes."""
    random = np.random.default_rng(seed)
    magnitudes = 10.0 ** random.uniform(-3, 1, shape[:1] + (1,) * (len(shape) - 1))
    return (magnitudes * random.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("precision", quantization.INTEGERS)
def test_error_is_no_more_than_that_of_rounding_to_the_largest_magnitude(shape, precision):
    array = draw(shape)
    quantized = jax.jit(quantization.quantize, static_argnums=1)(array, precision)
    assert quantized.values.shape == shape
    assert quantized.values.dtype == jnp.int8
    assert quantized.scales.shape == (quantization.num_rows(shape),)
    values = np.asarray(quantized.values)
    assert -LARGEST[precision] <= values.min() <= values.max() < LARGEST[precision]
    restored = np.asarray(quantization.dequantize(quantized))
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
    restored = quantization.round_to(array, "int4")
    step = np.abs(array).max(axis=1, keepdims=True) / 7.5
    plain = np.round(array / step).clip(-8, 7) * step
    assert np.square(restored - array).sum() < 0.8 * np.square(plain - array).sum()


@pytest.mark.parametrize("shape", SHAPES)
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
    for precision in quantization.INTEGERS:
        restored = quantization.round_to(array, precision)
        np.testing.assert_allclose(restored, array, rtol=1 / LARGEST[precision])


@pytest.mark.parametrize(("precision", "largest"), [("bfloat16", 0.004), ("int8", 0.01),
                                                    ("int4", 0.15)])  # fmt: skip
def test_fake_quantization_has_the_stored_values_and_the_gradient_of_the_identity(
    precision, largest
):
    array = jnp.asarray(draw((60, 90)))

    def function(x):
        return jnp.sum(jnp.sin(quantization.fake_quantize(x, precision)))

    rounded = quantization.round_to(array, precision)
    error = np.linalg.norm(rounded - array) / np.linalg.norm(array)
    assert 1e-5 < error < largest
    np.testing.assert_allclose(
        quantization.fake_quantize(array, precision), rounded, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(jax.jit(jax.grad(function))(array), np.cos(rounded), atol=1e-5)


def test_full_precision_is_the_array_itself():
    array = draw((60, 90))
    np.testing.assert_array_equal(quantization.round_to(array, "float32"), array)


def test_arrays_keep_their_dtype():
    array = jnp.asarray(draw((60, 90)), jnp.bfloat16)
    for precision in quantization.PRECISIONS:
        assert quantization.round_to(array, precision).dtype == jnp.bfloat16


@pytest.mark.parametrize("shape", [(4, 6), (5, 5), (1,), (0,)])
def test_packed_integers_come_back(shape):
    values = np.random.default_rng(0).integers(-8, 8, shape).astype(np.int8)
    packed = quantization.pack_int4(values)
    assert packed.dtype == jnp.uint8
    assert packed.size == -(-values.size // 2)
    np.testing.assert_array_equal(quantization.unpack_int4(packed, shape), values)


def test_the_first_of_two_packed_integers_has_the_low_bits():
    assert quantization.pack_int4(np.array([-8, 7, 1], np.int8)).tolist() == [0xF0, 0x09]
