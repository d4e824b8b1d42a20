"""A model's weights as data: what they are called, where they are tiled, how they start."""

from smh_jax.manifest.hashed_set import PRESETS
from smh_jax.manifest.manifest import Manifest
from smh_jax.manifest.table import table
from smh_jax.manifest.tensor import Params, Tensor

__all__ = ["PRESETS", "Manifest", "Params", "Tensor", "table"]
