"""Pretrained weights of other libraries as the collections of our models.

A file of random or trained weights gives our model the logits of the library's own to 1e-4
(`tests/test_pretrained.py` compares them where the library is installed), if the model has the
options in `smh_jax.shipping.pretrained.layouts`:

| | timm, torchvision | Hugging Face | Keras applications |
| --- | --- | --- | --- |
| resnet18, 34, 50, 101, 152 | defaults | defaults | `stride_on_3x3=False, bn_epsilon=1.001e-5` |
| efficientnet_b* | timm's `tf_efficientnet_b*`: defaults; others: PyTorch's | defaults | defaults |
| mobilenet_v2 | PyTorch's | defaults | defaults |
| mobilenet_v3_* | timm's `tf_mobilenetv3_*`: defaults; others: PyTorch's | none | defaults |

PyTorch's options are `symmetric_padding=True, bn_epsilon=1e-5`; torchvision's MobileNetV3 and
EfficientNet-B5 to B7 keep the epsilon of 1e-3. What two models of a library share in names and
shapes a file cannot tell apart: timm's of TensorFlow and its own take the options of either.

Hugging Face's EfficientNet pads for one resolution, that of its configuration, where the logits are
the same. Our models take images as they leave a library's preprocessing, which for Keras includes
layers of the model: EfficientNet's rescaling and normalization, and MobileNetV3's to [-1, 1].
"""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from smh_jax import models
from smh_jax.shipping.pretrained import layouts, readers
from smh_jax.shipping.pretrained.layouts import KERAS, Layout
from smh_jax.shipping.pretrained.readers import is_foreign

__all__ = ["is_foreign", "load"]

# The name and position of a tensor in its module.
_TORCH = {"kernel": "weight", "bias": "bias", "scale": "weight", "mean": "running_mean"}
_TORCH |= {"var": "running_var"}
_KERAS = {"kernel": 0, "bias": 1, "scale": 0, "mean": 2, "var": 3}
# Counters, and the constants of a preprocessing layer.
_IGNORED = re.compile(r"(.*\.)?num_batches_tracked|normalization(_\d+)?/\d")
_MOST_NAMED = 20


class _Fit(NamedTuple):
    """The collections that a file gives a model, and in words what does not fit."""

    layout: Layout
    num_matches: int
    collections: dict[str, Any]
    problems: list[str]


def load(
    model_name: str, path: str | os.PathLike[str], *, num_classes: int | None = None, **options: Any
) -> dict[str, Any]:
    """The params and batch statistics of one of our models from another library's file.

    Biases of convolutions, which ours do not have, are taken off the means of their batch norms.

    Args:
        model_name: one of `smh_jax.models.names()`.
        path: a safetensors file, a state dict of PyTorch (.pt, .pth, .bin), or a file of Keras
            (.weights.h5, .keras, .h5), of timm, torchvision, Hugging Face or Keras applications.
        num_classes: of the model; by default that of the file.
        **options: of `smh_jax.models.default_options(model_name)`.

    Returns:
        {"params": ..., "batch_stats": ...} of NumPy arrays, with the trees and shapes that
        `smh_jax.models.create(model_name, num_classes=..., **options).init` gives.

    Raises:
        ValueError: if the file cannot be read, has tensors that do not fit (they are named, and the
            models of the family that would fit), or is of models that compute something else than
            one with these options (the right ones are named).
    """
    options = models.default_options(model_name) | options
    known = layouts.of_model(model_name)
    if not known:
        raise ValueError(
            f"model {model_name!r} is in none of the libraries whose weights can be read; "
            f"these are: {', '.join(filter(layouts.of_model, models.names()))}"
        )
    tensors = readers.read(path)
    fit = _fit(model_name, tensors, num_classes, options)
    if fit.problems:
        # Of the family: to build every model would take a minute.
        family = [name for name in models.names() if layouts.of_model(name) is known]
        others = [name for name in family if name != model_name and _fits(name, tensors)]
        hint = f"; it fits model {' or '.join(others)}" if others else ""
        raise ValueError(
            f"params={path} does not fit model {model_name!r} in the layout of "
            f"{fit.layout.library}: {_few(fit.problems)}{hint}"
        )
    sources = fit.layout.sources
    if not any(right.items() <= options.items() for right in sources.values()):
        has = {name: options[name] for name in next(iter(sources.values()))}
        right = "; ".join(f"{_words(right)} (of {name})" for name, right in sources.items())
        raise ValueError(
            f"params={path} is in the layout of {fit.layout.library}, whose models compute "
            f"something else than model {model_name!r} with {_words(has)}: "
            f"the options that are right are {right}"
        )
    return fit.collections


def _fits(model_name: str, tensors: Mapping[str, np.ndarray]) -> bool:
    return not _fit(model_name, tensors, None, models.default_options(model_name)).problems


def _fit(
    model_name: str,
    tensors: Mapping[str, np.ndarray],
    num_classes: int | None,
    options: Mapping[str, Any],
) -> _Fit:
    """How the tensors fit the model in the layout that has the most of their names."""
    like = flax.traverse_util.flatten_dict(_shapes(model_name, num_classes or 1, options), sep="/")
    modules = {path.split("/", 1)[1].rsplit("/", 1)[0] for path in like}
    fits = []
    for layout in layouts.of_model(model_name):
        theirs = layouts.names(layout, model_name, modules)
        fits.append(_fit_layout(layout, theirs, tensors, like, num_classes))
    return max(fits, key=lambda fit: fit.num_matches)


def _shapes(model_name: str, num_classes: int, options: Mapping[str, Any]) -> dict[str, Any]:
    model = models.create(model_name, num_classes=num_classes, **options)
    side = max(32, options["input_resolution"])
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    init = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    return jax.tree.map(jnp.shape, init)


def _fit_layout(
    layout: Layout,
    theirs: Mapping[str, str],
    tensors: Mapping[str, np.ndarray],
    like: Mapping[str, tuple[int, ...]],
    num_classes: int | None,
) -> _Fit:
    rest = {name: x for name, x in tensors.items() if not _IGNORED.fullmatch(name)}
    found, problems = {}, []
    for path, shape in like.items():
        module, leaf = path.split("/", 1)[1].rsplit("/", 1)
        name = _tensor_name(layout, theirs[module], leaf)
        if name not in rest:
            problems.append(f"{name} (for {path}) is missing")
            continue
        x = found[path] = _in_our_order(layout, rest.pop(name), module, len(shape))
        if module == "classifier" and num_classes is None:
            shape = (*shape[:-1], x.shape[-1])
        if x.shape != shape:
            problems.append(f"{name} gives {x.shape} where {path} is {shape}")
    num_matches = len(found)
    for module, name in theirs.items():
        bias = rest.pop(_tensor_name(layout, name, "bias"), None)
        mean = f"batch_stats/{module.removesuffix('conv')}bn/mean"
        if bias is not None and mean in found and found[mean].shape == bias.shape:
            found[mean] = found[mean] - bias
        elif bias is not None:
            problems.append(f"{name}'s bias {bias.shape} has no place in {module}")
    problems += [f"{name} {x.shape} is not of this model" for name, x in rest.items()]
    collections = flax.traverse_util.unflatten_dict(found, sep="/")
    return _Fit(layout, num_matches, collections, problems)


def _tensor_name(layout: Layout, module: str, leaf: str) -> str:
    if layout.library == KERAS:
        return f"{module}/{_KERAS[leaf]}"
    return f"{module}.{_TORCH[leaf]}"


def _in_our_order(layout: Layout, x: np.ndarray, module: str, rank: int) -> np.ndarray:
    """A tensor with its axes as in ours: [h, w, in, out], in a depthwise kernel [h, w, 1, out]."""
    if layout.library == KERAS:
        if x.ndim == 4 and "/depthwise/" in module:
            x = x.swapaxes(2, 3)
    else:
        x = x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T
    # A convolution of single pixels is a dense layer.
    if {x.ndim, rank} == {2, 4} and x.shape[:-2] in ((), (1, 1)):
        x = x.reshape((1, 1) * (rank == 4) + x.shape[-2:])
    return np.ascontiguousarray(x)


def _few(problems: list[str]) -> str:
    more = len(problems) - _MOST_NAMED
    return "; ".join(problems[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
