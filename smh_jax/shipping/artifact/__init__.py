"""A trained model in one file: how it is stored, loaded and handed to other programs."""

from smh_jax.methods.rounding import PRECISIONS
from smh_jax.shipping.artifact.artifact import Artifact, ModelSpec
from smh_jax.shipping.artifact.file import check_new, encode, load, save
from smh_jax.shipping.artifact.forward import FORMS
from smh_jax.shipping.artifact.image_files import Preprocessing
from smh_jax.shipping.stablehlo import to_stablehlo

__all__ = [
    "FORMS",
    "PRECISIONS",
    "Artifact",
    "ModelSpec",
    "Preprocessing",
    "check_new",
    "encode",
    "load",
    "save",
    "to_onnx",
    "to_stablehlo",
]


def to_onnx(artifact: Artifact, form: str = "on_the_fly") -> bytes:
    """An ONNX model; see `smh_jax.shipping.onnx.export`.

    Raises:
        ValueError: also if the package `onnx` is not installed.
    """
    try:
        from smh_jax.shipping import onnx
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}; install it with: pip install 'smh_jax[onnx]'") from error
    return onnx.export(artifact, form)
