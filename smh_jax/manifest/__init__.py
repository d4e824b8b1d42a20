"""A model's weights as data: what they are called, where they are tiled, how they start."""

from smh_jax.manifest.manifest import PRESETS, Manifest, Params, Tensor

__all__ = ["PRESETS", "Manifest", "Params", "Tensor"]
