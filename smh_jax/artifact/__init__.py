"""A trained model in one file: how it is stored, loaded and handed to other programs."""

from smh_jax.artifact.artifact import Artifact, ModelSpec
from smh_jax.artifact.evaluation import evaluate
from smh_jax.artifact.file import check_new, encode, load, save, write
from smh_jax.artifact.preprocessing import Preprocessing
from smh_jax.artifact.quantization import PRECISIONS

__all__ = [
    "PRECISIONS",
    "Artifact",
    "ModelSpec",
    "Preprocessing",
    "check_new",
    "encode",
    "evaluate",
    "load",
    "save",
    "write",
]
