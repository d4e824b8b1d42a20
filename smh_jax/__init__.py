"""Structured Multi-Hashing: networks whose weights are generated from far fewer variables."""

from etils import epy

# Read when first used: a command says what its flags are, or what is wrong with them, before the
# seconds that JAX and Flax take to load.
with epy.lazy_api_imports(globals()):
    from smh_jax import methods, models
    from smh_jax.manifest import Manifest
    from smh_jax.shipping import artifact, pretrained
    from smh_jax.shipping.artifact import Artifact, load, save
    from smh_jax.training.compress import compress
    from smh_jax.training.compressed import Compressed
    from smh_jax.training.optim import optimizer

__all__ = ["Artifact", "Compressed", "Manifest", "artifact", "compress", "load", "methods"]
__all__ += ["models", "optimizer", "pretrained", "save"]
__version__ = "0.1.0"
