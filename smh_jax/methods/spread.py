"""How arrays are spread over the devices that share one replica of a model, where several do.

What is said here changes where numbers are, and not which. Anywhere else, as where every device
has a replica of its own, it says nothing.
"""

import jax
from jax.sharding import PartitionSpec as P

# The axis of the mesh along which devices share a replica.
MODEL_AXIS = "model"


def whole(array: jax.Array) -> jax.Array:
    """The array, all of which is on every device."""
    return _placed(array, P())


def along(array: jax.Array, axis: int) -> jax.Array:
    """The array, of which every device has one part along an axis."""
    names: list[str | None] = [None] * array.ndim
    names[axis] = MODEL_AXIS
    return _placed(array, P(*names))


def _placed(array: jax.Array, spec: P) -> jax.Array:
    if MODEL_AXIS not in jax.sharding.get_abstract_mesh().axis_names:
        return array
    return jax.lax.with_sharding_constraint(array, spec)
