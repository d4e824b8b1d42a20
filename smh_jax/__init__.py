"""Structured Multi-Hashing: networks whose weights are generated from far fewer variables."""

from smh_jax import methods, models
from smh_jax.manifest import Manifest
from smh_jax.shipping import artifact, pretrained
from smh_jax.shipping.artifact import Artifact, load, save

__all__ = ["Artifact", "Manifest", "artifact", "load", "methods", "models", "pretrained", "save"]
__version__ = "0.1.0"
