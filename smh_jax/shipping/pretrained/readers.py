"""The tensors in other libraries' files, by name. Nothing is unpickled, and sizes are checked."""

import io
import os
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

# A Keras archive stores its weights as they are; one that was compressed again gains little.
_MAX_COMPRESSION = 100


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a file by the library's names, floating-point ones in float32.

    Of PyTorch (.pt, .pth, .bin: a state dict, or one under 'state_dict' or 'model') and safetensors
    files they are those of the state dict. Of Keras (.weights.h5, .keras, .h5) they are the layer's
    name in small letters and the position of the variable in it, as in 'stem_conv/0'.

    Raises:
        ValueError: if the file cannot be read, is of another format, or needs PyTorch, which is
            not installed.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"params={path} is not a file")
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise ValueError(f"params={path} must be a file {', '.join(_READERS)}")
    try:
        tensors = reader(path)
    except Exception as error:
        # What a damaged file brings about in four libraries is of no one type.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"params={path} cannot be read: {reason:.300}") from error
    if not tensors:
        raise ValueError(f"params={path} holds no named tensors")
    return tensors


def is_foreign(path: str | os.PathLike[str]) -> bool:
    """Whether a file is another library's: by its ending, and safetensors by the tensors' names."""
    path = pathlib.Path(path)
    if path.suffix != ".safetensors":
        return path.suffix in _READERS
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return any(name.endswith(".weight") for name in file.keys())  # noqa: SIM118
    except Exception:
        # Whoever reads it says what is wrong.
        return False


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise ValueError("this needs torch: pip install 'smh_jax[torch]'") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            "it is damaged, or holds more than tensors: save model.state_dict()"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}: save model.state_dict()")
    tensors = {name: x for name, x in content.items() if isinstance(x, torch.Tensor)}
    # Of models that were trained on several devices.
    prefix = "module." if all(str(name).startswith("module.") for name in tensors) else ""
    return {
        str(name).removeprefix(prefix): x.float().numpy() if x.is_floating_point() else x.numpy()
        for name, x in tensors.items()
    }


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    return {name: _in_float32(x) for name, x in safetensors.numpy.load_file(path).items()}


def _read_keras(path: pathlib.Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("model.weights.h5")
        if member.file_size > _MAX_COMPRESSION * path.stat().st_size:
            raise ValueError(f"its weights declare {member.file_size} bytes, far more than it has")
        return _read_h5(io.BytesIO(archive.read(member)), member.file_size)


def _read_h5(source: Any, num_bytes: int) -> dict[str, np.ndarray]:
    import h5py

    tensors = {}
    with h5py.File(source, "r") as file:
        layers = _of_keras_3(file) if "layers" in file else _of_keras_2(file)
        for layer, position, dataset in layers:
            name = f"{layer}/{position}"
            num_bytes -= dataset.nbytes
            # Its bytes may be in another file, or nowhere.
            if dataset.external or dataset.is_virtual or num_bytes < 0:
                raise ValueError(f"its variable {name:.80} is not in the file")
            if dataset.dtype.kind not in "fiu":
                raise ValueError(f"its variable {name:.80} holds no numbers")
            tensors[name] = _in_float32(dataset[()])
    return tensors


def _of_keras_3(file: Any) -> Iterator[tuple[str, int, Any]]:
    """The layer's name, position and dataset of each variable."""
    for group in _at(file, "layers"):
        variables = _at(file, f"layers/{group}/vars")
        for position in variables:
            name = variables.attrs.get("name")
            if name is None:
                raise ValueError("its layers have no names: save it again with a newer Keras")
            yield _text(name).lower(), int(position), _at(variables, position)


def _of_keras_2(file: Any) -> Iterator[tuple[str, int, Any]]:
    """The same of the format of Keras 2, in which keras.applications are downloaded."""
    root = _at(file, "model_weights") if "model_weights" in file else file
    for layer in map(_text, root.attrs["layer_names"]):
        group = _at(root, layer)
        # MobileNetV3's names were paths.
        name = layer.lower().replace("/", "_").replace("batchnorm", "bn")
        for position, variable in enumerate(map(_text, group.attrs["weight_names"])):
            yield name, position, _at(group, variable)


def _at(group: Any, path: str) -> Any:
    """What a group has at a path, following no link into another file."""
    import h5py

    for name in path.split("/"):
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"its {name!r:.80} is a link")
        group = group[name]
    return group


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _in_float32(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x


_READERS = {
    ".safetensors": _read_safetensors,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".bin": _read_torch,
    ".keras": _read_keras,
    ".h5": lambda path: _read_h5(path, path.stat().st_size),
}
