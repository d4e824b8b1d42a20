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


def expected_bytes(method: Method, model_state: Any, precision: str) -> int:
    """Bytes of the file of a model, at most but for a few.

    The integers of a coded pool are taken to have the entropy of a normal distribution, which is
    the largest of all with its deviation.

    Args:
        method: of the weights.
        model_state: shapes of the model's other collections, a tree.
        precision: of the pools.
    """
    kind, step = rounding.parse(precision)
    pools = method.pools(method.abstract_variables)
    numbers = sum(leaf.size for leaf in jax.tree.leaves((method.abstract_variables, model_state)))
    others = numbers - sum(pool.size for pool in pools)
    leaves = len(jax.tree.leaves((method.abstract_variables, model_state)))
    small = others + 2 * leaves if kind == "coded" else 4 * others
    described = _DESCRIPTION + _PER_TENSOR * len(method.manifest.tensors)
    return math.ceil(described + small + sum(_pool_bytes(pool, kind, step) for pool in pools))


def _pool_bytes(pool: Any, kind: str, step: float) -> float:
    if kind == "coded":
        # In steps of 1; about eight deviations occur, and each integer of them has a byte.
        variance = 1 / step**2 + 1 / 12
        bits = max(0.0, 0.5 * math.log2(2 * math.pi * math.e * variance))
        return 1.01 * pool.size * bits / 8 + 2 + _TABLE_ENDS + min(255, 9 / step + 2)
    bits = math.log2(3) if kind == "ternary" else _BITS[kind]
    scales = 0 if kind in ("float32", "bfloat16") else 4 * rounding.num_rows(pool.shape, kind)
    coded = _TABLE_ENDS + 8 if kind in ("int3", "int2", "ternary") else 0
    return pool.size * bits / 8 + scales + coded
