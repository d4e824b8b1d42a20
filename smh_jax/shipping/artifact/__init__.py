"""A trained model in one file: how it is stored and loaded."""

from smh_jax.data.image_files import Preprocessing
from smh_jax.methods.rounding import PRECISIONS, parse
from smh_jax.shipping.artifact.artifact import Artifact, ModelSpec
from smh_jax.shipping.artifact.file import check_new, encode, save
from smh_jax.shipping.artifact.forward import FORMS
from smh_jax.shipping.artifact.nested import ends, save_sizes
from smh_jax.shipping.artifact.reading import load, load_tasks
from smh_jax.shipping.artifact.together import alone, save_tasks

__all__ = ["FORMS", "PRECISIONS", "Artifact", "ModelSpec", "Preprocessing"]
__all__ += ["alone", "check_new", "encode", "ends", "load", "load_tasks", "parse", "save"]
__all__ += ["save_sizes", "save_tasks"]
