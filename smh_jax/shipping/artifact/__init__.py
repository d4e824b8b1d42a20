"""A trained model in one file: how it is stored and loaded."""

from smh_jax.data.image_files import Preprocessing
from smh_jax.methods.rounding import PRECISIONS, parse
from smh_jax.shipping.artifact.artifact import Artifact, ModelSpec
from smh_jax.shipping.artifact.file import check_new, encode, load, save
from smh_jax.shipping.artifact.forward import FORMS

__all__ = ["FORMS", "PRECISIONS", "Artifact", "ModelSpec", "Preprocessing"]
__all__ += ["check_new", "encode", "load", "parse", "save"]
