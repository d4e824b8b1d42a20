"""A trained model in one file: how it is stored and loaded."""

from smh_jax.data.image_files import Preprocessing
from smh_jax.methods.rounding import PRECISIONS, parse
from smh_jax.shipping.artifact.artifact import Artifact, ModelSpec
from smh_jax.shipping.artifact.file import check_new, encode, save
from smh_jax.shipping.artifact.forward import FORMS
from smh_jax.shipping.artifact.nested import ends, save_sizes
from smh_jax.shipping.artifact.reading import load

__all__ = ["FORMS", "PRECISIONS", "Artifact", "ModelSpec", "Preprocessing"]
__all__ += ["check_new", "encode", "ends", "load", "parse", "save", "save_sizes"]
