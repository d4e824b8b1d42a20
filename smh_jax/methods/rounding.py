"""Pools in fewer bits: signed integers with one scale per row.

The elements of a pool, row-major, are cut into rows that share a scale: an integer stands for
`integer * scale`. A row is one of the pool's own, along its last axis; where these are short it is
several of them, so that scales take at most a twentieth of the bytes of 8-bit integers.
"""

import math

import flax.struct
import jax
import jax.numpy as jnp

PRECISIONS = ("float32", "bfloat16", "int8", "int4")
INTEGERS = ("int8", "int4")

# 4 bytes of scale beside this many bytes of 8-bit integers are 5%.
_MIN_ROW_SIZE = 80
# A vector has no rows of its own.
_VECTOR_ROW_SIZE = 128
# Shares of a row's largest magnitude at which its integers may end. Clipping the few largest
# elements makes the steps between all others smaller: the best share is chosen row by row.
_CLIPPED_AT = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)


@flax.struct.dataclass
class Quantized:
    """A quantized array, as it is stored.

    Attributes:
        values: int8 [size], or for 'int4' uint8 [ceil(size / 2)]: two integers per byte.
        scales: float32 [rows].
        shape: of the array.
        precision: 'int8' or 'int4'.
    """

    values: jax.Array
    scales: jax.Array
    shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    precision: str = flax.struct.field(pytree_node=False)


def row_size(shape: tuple[int, ...]) -> int:
    """Number of consecutive elements that share a scale; those of the last row may be fewer."""
    if len(shape) < 2:
        return _VECTOR_ROW_SIZE
    last = max(1, shape[-1])
    return last * math.ceil(_MIN_ROW_SIZE / last)


def num_rows(shape: tuple[int, ...]) -> int:
    """Number of scales of an array of this shape."""
    return math.ceil(math.prod(shape) / row_size(shape))


def quantize(array: jax.Array, precision: str) -> Quantized:
    """The integers and scales of least squared error, row by row, among a few clipping points.

    The array is of any float dtype and shape; the precision is 'int8' or 'int4'.
    """
    # A quarter of the package's import time, for those who quantize only.
    import qwix

    array = jnp.asarray(array, jnp.float32)
    size, rows = row_size(array.shape), num_rows(array.shape)
    padded = jnp.pad(array.ravel(), (0, rows * size - array.size)).reshape(rows, size)
    lowest = jnp.full((rows, 1), jnp.inf)
    values, scales = jnp.zeros((rows, size), jnp.int8), jnp.ones((rows, 1))
    for share in _CLIPPED_AT:
        tried = qwix.quantize(
            padded, precision, channelwise_axes=(0,), calibration_method=f"absmax,{share}"
        )
        error = jnp.sum(jnp.square(qwix.dequantize(tried) - padded), axis=1, keepdims=True)
        better = error < lowest
        lowest = jnp.where(better, error, lowest)
        values = jnp.where(better, tried.qvalue.astype(jnp.int8), values)
        scales = jnp.where(better, tried.scale, scales)
    values = values.ravel()[: array.size]
    packed = _pack_int4(values) if precision == "int4" else values
    return Quantized(packed, scales[:, 0], array.shape, precision)


def dequantize(quantized: Quantized) -> jax.Array:
    """The float32 array that the integers stand for."""
    count, values = math.prod(quantized.shape), quantized.values
    is_packed = quantized.precision == "int4"
    integers = _unpack_int4(values)[:count] if is_packed else values.astype(jnp.float32)
    size, rows = row_size(quantized.shape), num_rows(quantized.shape)
    padded = jnp.pad(integers, (0, rows * size - count)).reshape(rows, size)
    restored = padded * quantized.scales[:, jnp.newaxis]
    return restored.ravel()[:count].reshape(quantized.shape)


def round_to(array: jax.Array, precision: str) -> jax.Array:
    """The array as it comes back, in its own dtype, after being stored at a precision."""
    if precision == "float32":
        return array
    if precision == "bfloat16":
        return array.astype(jnp.bfloat16).astype(array.dtype)
    return dequantize(quantize(array, precision)).astype(array.dtype)


def fake_quantize(array: jax.Array, precision: str) -> jax.Array:
    """`round_to` with the gradient of the identity (straight-through, Bengio et al. 2013)."""
    return array + jax.lax.stop_gradient(round_to(array, precision) - array)


def _pack_int4(values: jax.Array) -> jax.Array:
    """Two integers of -8 to 7 per byte, plus 8 each: the first in the low four bits."""
    values = jnp.pad(values + 8, (0, values.size % 2)).astype(jnp.uint8)
    return values[0::2] | (values[1::2] << 4)


def _unpack_int4(packed: jax.Array) -> jax.Array:
    """The inverse of `_pack_int4`, of an even number of integers: as float32."""
    pairs = jnp.stack([packed & 15, packed >> 4], axis=-1)
    return pairs.ravel().astype(jnp.float32) - 8
