"""Trained Flax models on disk, in the formats in which they are kept."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy

from smh_jax.manifest import Manifest, Params


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The collections of a Flax model by name: 'params', and perhaps 'batch_stats' and others.

    They are, or the params alone, in a file of `flax.serialization.to_bytes` (.msgpack), in a
    safetensors file whose names have '/' or '.' between the keys, or in a folder of orbax's
    StandardCheckpointer.

    Raises:
        ValueError: if the file cannot be read, or is of another format. Nothing is ever unpickled.
    """
    path = pathlib.Path(path).absolute()
    if not path.exists():
        raise ValueError(f"params={path} does not exist")
    readers = {
        ".msgpack": lambda path: flax.serialization.msgpack_restore(path.read_bytes()),
        ".safetensors": _read_safetensors,
    }
    reader = _read_orbax if path.is_dir() else readers.get(path.suffix)
    if reader is None:
        raise ValueError(
            f"params={path} must be a file {' or '.join(readers)}, a folder of orbax, or another "
            "library's file .pt, .pth, .bin, .weights.h5, .h5 or .keras"
        )
    try:
        tree = reader(path)
    except Exception as error:
        # What a damaged file brings about in three libraries is of no one type.
        raise ValueError(f"params={path} cannot be read: {error!r:.500}") from error
    if not isinstance(tree, dict) or not tree:
        raise ValueError(f"params={path} holds no tree of named tensors")
    return tree if "params" in tree else {"params": tree}


def fit(
    collections: Mapping[str, Any], manifest: Manifest, like: Mapping[str, Any]
) -> tuple[Params, dict[str, Any]]:
    """The params and the other collections, checked to be of a model.

    Args:
        collections: from `read`.
        manifest: of the model's params.
        like: the model's other collections, or their shapes and dtypes.

    Raises:
        ValueError: if a tensor is missing, not of the model or of another shape, or holds anything
            but finite floating-point numbers; the message names it.
    """
    params = collections["params"]
    if not isinstance(params, dict):
        raise ValueError("its params are no tree of named tensors")
    leaves = manifest.leaves(params)
    state = {name: collections.get(name) for name in like}
    wanted, given = jax.tree.map(jnp.shape, like), jax.tree.map(_shape, state)
    if wrong := [name for name in like if wanted[name] != given[name]]:
        raise ValueError(f"it has no {', '.join(wrong)} such as the model needs: save all of them")
    leaves |= flax.traverse_util.flatten_dict(state, sep="/")
    for name, leaf in leaves.items():
        is_float = isinstance(leaf, np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)
        if not is_float or not np.isfinite(leaf.astype(np.float32)).all():
            raise ValueError(f"its {name} holds something else than finite numbers")
    return params, jax.tree.map(lambda leaf, at: jnp.asarray(leaf, at.dtype), state, dict(like))


def _shape(leaf: Any) -> tuple[int, ...] | None:
    return leaf.shape if isinstance(leaf, np.ndarray) else None


def _read_safetensors(path: pathlib.Path) -> Any:
    flat = safetensors.numpy.load_file(path)
    separator = "/" if any("/" in name for name in flat) else "."
    return flax.traverse_util.unflatten_dict(flat, sep=separator)


def _read_orbax(path: pathlib.Path) -> Any:
    with ocp.StandardCheckpointer() as checkpointer:
        return jax.tree.map(np.asarray, checkpointer.restore(path))
