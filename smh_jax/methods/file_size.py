"""How many bytes a file of a model will have, before anything is trained."""

import math
from typing import Any

import jax

from smh_jax.methods import rounding
from smh_jax.methods.base import Method

# Header and description of a file of this project's models, and of each tensor in it: measured,
# rounded up (`tests/test_file_size.py`).
_DESCRIPTION, _PER_TENSOR = 1100, 8
# Of the table of an entropy coder's frequencies, and of the ends of its stream.
_TABLE_ENDS = 12
_BITS = {"float32": 32.0, "bfloat16": 16.0, "int8": 8.0, "int4": 4.0, "int3": 3.0, "int2": 2.0}


def expected_bytes(method: Method, model_state: Any, precision: str, sparsity: float = 0.0) -> int:
    """Bytes of the file of a model, at most but for a few.

    The integers of a coded pool are taken to have the entropy of a normal distribution, which is
    the largest of all with its deviation; of a pruned one those that are left.

    Args:
        method: of the weights.
        model_state: shapes of the model's other collections, a tree.
        precision: of the pools.
        sparsity: share of each pool that is pruned.
    """
    kind, step = rounding.parse(precision)
    pools = method.pools(method.abstract_variables)
    numbers = sum(leaf.size for leaf in jax.tree.leaves((method.abstract_variables, model_state)))
    others = numbers - sum(pool.size for pool in pools)
    leaves = len(jax.tree.leaves((method.abstract_variables, model_state)))
    small = others + 2 * leaves if kind == "coded" else 4 * others
    described = _DESCRIPTION + _PER_TENSOR * len(method.manifest.tensors)
    sizes = (_pool_bytes(pool, kind, step, sparsity) for pool in pools)
    return math.ceil(described + small + sum(sizes))


def _pool_bytes(pool: Any, kind: str, step: float, sparsity: float) -> float:
    if kind == "coded":
        # In steps: the root mean square of all elements is 1 / step.
        deviation = 1 / (step * math.sqrt(1 - sparsity))
        bits = (1 - sparsity) * _normal_bits(deviation) + _bits_of_two(sparsity)
        bits = min(bits, _normal_bits(1 / step))
        # About nine deviations occur, and each integer of them has a byte.
        return 1.01 * pool.size * bits / 8 + 2 + _TABLE_ENDS + min(255, 9 * deviation + 2)
    bits = math.log2(3) if kind == "ternary" else _BITS[kind]
    scales = 0 if kind in ("float32", "bfloat16") else 4 * rounding.num_rows(pool.shape, kind)
    coded = _TABLE_ENDS + 8 if kind in ("int3", "int2", "ternary") else 0
    return pool.size * bits / 8 + scales + coded


def _normal_bits(deviation: float) -> float:
    """Of an integer from a normal distribution: its entropy, or a little more."""
    return max(0.0, 0.5 * math.log2(2 * math.pi * math.e * (deviation**2 + 1 / 12)))


def _bits_of_two(share: float) -> float:
    """Of a choice between two, one of which has this share."""
    return -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)
