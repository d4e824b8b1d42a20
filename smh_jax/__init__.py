"""Structured Multi-Hashing: networks whose weights are generated from far fewer variables."""

from smh_jax import artifact, methods, models
from smh_jax.artifact import Artifact, load, save
from smh_jax.manifest import Manifest

__all__ = ["Artifact", "Manifest", "artifact", "load", "methods", "models", "save"]
__version__ = "0.1.0"
