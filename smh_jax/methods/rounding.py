"""Pools in fewer bits: signed integers with one scale per row, or per pool.

The elements of a pool, row-major, are cut into rows that share a scale: an integer stands for
`integer * scale`. A row is one of the pool's own, along its last axis; where these are short it is
several of them, so that scales take at most a twentieth of the bytes of 8-bit integers.

At precision 'coded' all integers of a pool share one scale, a share of the pool's root mean square
(its step), and are meant for an entropy coder: few steps per root mean square are few bits.
"""

import math

import flax.struct
import jax
import jax.numpy as jnp

from smh_jax.config.names import check_choice

# Of 'coded' there are as many as steps: 'coded:0.5' has two steps per root mean square.
PRECISIONS = ("float32", "bfloat16", "int8", "int4", "int3", "int2", "ternary", "coded")
INTEGERS = ("int8", "int4", "int3", "int2", "ternary", "coded")
# Eight bits for what is not a pool: linear, and of the logarithm to base 2 of positive numbers.
SMALL = ("linear8", "log8")
# A third of a point of accuracy for the models that were measured, half the bytes of int8.
DEFAULT_STEP = 0.25
# A pool of one large element and a million zeros still has it in 8 bits.
MIN_STEP, MAX_STEP = 0.01, 4.0
LARGEST = 127
# Of the largest of some positive numbers: what is smaller is taken for this share of it.
_NEGLIGIBLE = 2.0**-24

# 4 bytes of scale next to this many bytes of 8-bit integers are 5%.
_MIN_ROW_SIZE = 80
# A vector has no rows of its own.
_VECTOR_ROW_SIZE = 128
# Shares of a row's largest magnitude at which its integers may end. Clipping the few largest
# elements makes the steps between all others smaller: the best share is chosen row by row.
_CLIPPED_AT = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
_CLIPPED_FURTHER = (*_CLIPPED_AT, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3)


@flax.struct.dataclass
class Quantized:
    """A quantized array, as it is stored.

    Attributes:
        values: int8 [size], or for 'int4' uint8 [ceil(size / 2)]: two integers per byte.
        scales: float32 [rows].
        shape: of the array.
        precision: of `INTEGERS`, or of `SMALL`.
    """

    values: jax.Array
    scales: jax.Array
    shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    precision: str = flax.struct.field(pytree_node=False)


def parse(precision: str, field: str = "precision") -> tuple[str, float]:
    """The kind of a precision, one of `PRECISIONS`, and the step of 'coded'.

    Raises:
        ValueError: for an unknown kind, or a step that is none.
    """
    kind, colon, step = precision.partition(":")
    if not colon or kind != "coded":
        check_choice(field, precision, PRECISIONS)
        return precision, DEFAULT_STEP
    try:
        value = float(step)
    except ValueError:
        value = math.nan
    if not MIN_STEP <= value <= MAX_STEP:
        raise ValueError(
            f"{field}={precision!r}: the step must be a number from {MIN_STEP} to {MAX_STEP}, "
            f"as in 'coded:{DEFAULT_STEP}'"
        )
    return kind, value


def row_size(shape: tuple[int, ...], precision: str = "int8") -> int:
    """Number of consecutive elements that share a scale; those of the last row may be fewer."""
    if precision == "coded" or precision in SMALL:
        return max(1, math.prod(shape))
    if len(shape) < 2:
        return _VECTOR_ROW_SIZE
    last = max(1, shape[-1])
    return last * math.ceil(_MIN_ROW_SIZE / last)


def num_rows(shape: tuple[int, ...], precision: str = "int8") -> int:
    """Number of scales of an array of this shape."""
    return math.ceil(math.prod(shape) / row_size(shape, precision))


def quantize(array: jax.Array, precision: str) -> Quantized:
    """The integers of an array of any float dtype and shape, and the scales of its rows.

    Those of 'coded' follow from its step; the others' have the least squared error, row by row,
    among a few clipping points.
    """
    kind, step = parse(precision)
    array = jnp.asarray(array, jnp.float32)
    if kind == "coded":
        scale = step * jnp.sqrt(jnp.mean(jnp.square(array)))
        return _on_one_grid(array, scale, kind)
    size, rows = row_size(array.shape), num_rows(array.shape)
    padded = jnp.pad(array.ravel(), (0, rows * size - array.size)).reshape(rows, size)
    lowest = jnp.full((rows, 1), jnp.inf)
    values, scales = jnp.zeros((rows, size), jnp.int8), jnp.ones((rows, 1))
    for share in _CLIPPED_AT if kind in ("int8", "int4") else _CLIPPED_FURTHER:
        tried, scale = _clipped(padded, kind, share)
        error = jnp.sum(jnp.square(tried * scale - padded), axis=1, keepdims=True)
        better = error < lowest
        lowest = jnp.where(better, error, lowest)
        values = jnp.where(better, tried.astype(jnp.int8), values)
        scales = jnp.where(better, scale, scales)
    values = values.ravel()[: array.size]
    packed = _pack_int4(values) if kind == "int4" else values
    return Quantized(packed, scales[:, 0], array.shape, kind)


def quantize_small(array: jax.Array) -> Quantized:
    """Eight bits for each number of what is not a pool, such as statistics of batch norm.

    Positive numbers, variances among them, keep their relative precision. The variance of a channel
    that is pruned is 0: among them it stands for one that is far too small to matter, so that the
    others keep theirs.
    """
    array = jnp.asarray(array, jnp.float32)
    if jnp.any(array > 0) and jnp.all(array >= 0):
        exponents = jnp.log2(jnp.maximum(array, jnp.max(array) * _NEGLIGIBLE))
        return _on_one_grid(exponents, jnp.max(jnp.abs(exponents)) / LARGEST, "log8")
    return _on_one_grid(array, jnp.max(jnp.abs(array), initial=0) / LARGEST, "linear8")


def dequantize(quantized: Quantized) -> jax.Array:
    """The float32 array that the integers stand for."""
    count, values, kind = math.prod(quantized.shape), quantized.values, quantized.precision
    integers = _unpack_int4(values)[:count] if kind == "int4" else values.astype(jnp.float32)
    size, rows = row_size(quantized.shape, kind), num_rows(quantized.shape, kind)
    padded = jnp.pad(integers, (0, rows * size - count)).reshape(rows, size)
    restored = (padded * quantized.scales[:, jnp.newaxis]).ravel()[:count]
    if kind == "log8":
        restored = jnp.exp2(restored)
    return restored.reshape(quantized.shape)


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


def _on_one_grid(array: jax.Array, scale: jax.Array, kind: str) -> Quantized:
    """Multiples of one scale, which is a bfloat16 number, as the file holds it."""
    scale = scale.astype(jnp.bfloat16).astype(jnp.float32)
    scale = jnp.where(scale > 0, scale, 1.0)
    values = jnp.clip(jnp.round(array / scale), -LARGEST, LARGEST).astype(jnp.int8)
    rows = num_rows(array.shape, kind)
    return Quantized(values.ravel(), jnp.full(rows, scale), array.shape, kind)


def _clipped(rows: jax.Array, kind: str, share: float) -> tuple[jax.Array, jax.Array]:
    """Integers [rows, size] of rows clipped at a share of their maxima, and [rows, 1] scales."""
    if kind == "ternary":
        scale = share * jnp.max(jnp.abs(rows), axis=1, keepdims=True)
        scale = jnp.where(scale > 0, scale, 1.0)
        return jnp.clip(jnp.round(rows / scale), -1, 1), scale
    # A quarter of the package's import time, for those who quantize only.
    import qwix

    method = f"absmax,{share}"
    tried = qwix.quantize(rows, kind, channelwise_axes=(0,), calibration_method=method)
    return tried.qvalue.astype(jnp.float32), tried.scale


def _pack_int4(values: jax.Array) -> jax.Array:
    """Two integers of -8 to 7 per byte, plus 8 each: the first in the low four bits."""
    values = jnp.pad(values + 8, (0, values.size % 2)).astype(jnp.uint8)
    return values[0::2] | (values[1::2] << 4)


def _unpack_int4(packed: jax.Array) -> jax.Array:
    """The inverse of `_pack_int4`, of an even number of integers: as float32."""
    pairs = jnp.stack([packed & 15, packed >> 4], axis=-1)
    return pairs.ravel().astype(jnp.float32) - 8
