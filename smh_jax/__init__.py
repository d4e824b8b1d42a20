"""Structured Multi-Hashing: networks whose weights are generated from far fewer variables."""

from smh_jax import methods, models
from smh_jax.manifest import Manifest

__all__ = ["Manifest", "methods", "models"]
__version__ = "0.1.0"
