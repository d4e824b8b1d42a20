"""A budget in bytes: how many variables, and at which precision, a file of so many bytes can hold.

The rule: the precision that the run is trained for, and for a run that names none 'coded:0.25', the
coarsest of those measured in `experiments/results/frontier_reduced.md` that costs SMH no more than
about 0.3 points of accuracy; then as many variables as fit.
"""

from collections.abc import Callable
from typing import Any

from smh_jax.config import Config
from smh_jax.methods import Method
from smh_jax.methods.file_size import expected_bytes

DEFAULT_PRECISION = "coded:0.25"


def precision_of(config: Config) -> str:
    """The precision at which a run's pools are trained, and stored if it has a budget in bytes."""
    if config.method.target_bytes is None or config.pool_precision != "float32":
        return config.pool_precision
    return DEFAULT_PRECISION


def fitting(
    create: Callable[[int], Method],
    num_weights: int,
    model_state: Any,
    target_bytes: int,
    precision: str,
    sparsity: float = 0.0,
) -> Method:
    """The method of the most variables whose file has no more than so many bytes.

    Args:
        create: the method of a target size.
        num_weights: of the model, above any target size.
        model_state: shapes of the model's other collections.
        target_bytes: of the file.
        precision: of the pools.
        sparsity: share of each pool that is pruned.

    Raises:
        ValueError: if no file is as small, naming the smallest one.
    """
    low, high = 1, num_weights - 1
    best, smallest = None, None
    while low <= high:
        middle = (low + high) // 2
        try:
            method = create(middle)
        except ValueError:
            # Too few variables for the tensors that are stored, if for any.
            low = middle + 1
            continue
        size = expected_bytes(method, model_state, precision, sparsity)
        if size <= target_bytes:
            best, low = method, middle + 1
        else:
            smallest, high = size, middle - 1
    if best is None and smallest is None:
        create(num_weights - 1)
    if best is None:
        raise ValueError(
            f"method.target_bytes={target_bytes} is too small at pool_precision={precision!r}: "
            f"the smallest file has {smallest:,} bytes"
        )
    return best
