"""The static description of a base model's weights: what is hashed, what is stored, and where.

A manifest is made once from any Flax linen model and is all that the methods know of it.
"""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from unittest import mock

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta

from smh_jax.manifest import initial_values
from smh_jax.manifest.initial_values import Initializer, InitialValues

# The paper's choices. Anything else given as `hashed` is a regular expression.
PRESETS = {
    "all": "every tensor but batch norm (the paper's default, section 3)",
    "conv": "the tensors of convolutions only (section 4.7)",
    "kernels": "tensors of two or more dimensions; biases are stored",
}
# Where the mean of a tensor's initial values is further from 0 than this many of its standard
# deviations, no zero-mean pool can start it: it is stored.
_MAX_RELATIVE_MEAN = 0.1

Params = dict[str, Any]
Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One trainable tensor of the base model.

    Attributes:
        path: keys from the root of the params tree to the tensor.
        shape: of the tensor.
        dtype: its name, such as 'float32'.
        layer: kind of the layer that owns it: 'conv', 'dense', 'batch_norm', or its class's name.
        hashed: whether it is generated from the pools; otherwise it is stored and trained as it is.
        reason: why it is stored; '' if it is hashed.
        initial: statistics of the values that the model's own initializer gives it.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str
    layer: str
    hashed: bool
    reason: str
    initial: InitialValues

    @property
    def name(self) -> str:
        """The path with slashes: 'block1/conv1/kernel'."""
        return "/".join(self.path)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Every trainable tensor of a model in order of creation; static and hashable.

    Attributes:
        tensors: in the order in which `model.init` creates them, which is the order of tiling
            (paper, equation 3).
        hashed_set: the choice that decided which tensors are hashed: a preset or a pattern.
    """

    tensors: tuple[Tensor, ...]
    hashed_set: str

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        input_shape: tuple[int, ...],
        hashed: str = "all",
        measure: bool = True,
    ) -> "Manifest":
        """Describes a model that is called as `model(images, train)`.

        Args:
            model: any Flax linen module.
            input_shape: of one batch, batch dimension included.
            hashed: 'all', 'conv', 'kernels', or a regular expression that is searched in the
                tensors' names ('stage3_.*/kernel'). Batch norm is stored whatever is chosen, and
                so is a tensor whose initial values do not average to 0.
            measure: whether the initial values are measured by running the initializers. Without,
                nothing is allocated, every statistic is nan, and the manifest is good for
                counting only.

        Raises:
            ValueError: if `hashed` is not a valid expression or matches no tensor.
        """
        structure, initializers = _trace(model, input_shape)
        if measure:
            structure = [
                dataclasses.replace(
                    tensor, initial=initial_values.measure(initializers[tensor.path])
                )
                for tensor in structure
            ]
        chosen = _hashed_by(hashed, structure)
        return cls(tuple(_decide(t, t.path in chosen) for t in structure), hashed)

    @cached_property
    def hashed(self) -> tuple[Tensor, ...]:
        """The hashed tensors in order of creation."""
        return tuple(tensor for tensor in self.tensors if tensor.hashed)

    @cached_property
    def stored(self) -> tuple[Tensor, ...]:
        """The stored tensors in order of creation."""
        return tuple(tensor for tensor in self.tensors if not tensor.hashed)

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Position of each hashed tensor's first element among all hashed weights, by name."""
        offsets, offset = {}, 0
        for tensor in self.hashed:
            offsets[tensor.name] = offset
            offset += tensor.size
        return offsets

    @property
    def num_weights(self) -> int:
        """Trainable elements of the base model."""
        return self.num_hashed + self.num_stored

    @property
    def num_hashed(self) -> int:
        """Elements of the hashed tensors: the paper's N."""
        return sum(tensor.size for tensor in self.hashed)

    @property
    def num_stored(self) -> int:
        """Elements of the stored tensors."""
        return sum(tensor.size for tensor in self.stored)

    def store(self, names: Mapping[str, str]) -> "Manifest":
        """The same manifest with the named tensors stored; `names` maps each to the reason."""
        return dataclasses.replace(
            self,
            tensors=tuple(
                dataclasses.replace(tensor, hashed=False, reason=names[tensor.name])
                if tensor.name in names
                else tensor
                for tensor in self.tensors
            ),
        )

    def tree(self, leaves: Mapping[str, Any]) -> Params:
        """The params tree whose leaf at each tensor's path is `leaves[tensor.name]`."""
        params: Params = {}
        for tensor in self.tensors:
            node = params
            for key in tensor.path[:-1]:
                node = node.setdefault(key, {})
            node[tensor.path[-1]] = leaves[tensor.name]
        return params

    def leaves(self, params: Params) -> dict[str, Any]:
        """The inverse of `tree`: leaves of a params tree by tensor name."""
        return {tensor.name: _at(params, tensor.path) for tensor in self.tensors}

    def same_tensors(self, other: "Manifest") -> bool:
        """Whether both describe tensors of the same paths, shapes and dtypes in the same order."""

        def tensors(manifest: "Manifest") -> list[tuple[Any, ...]]:
            return [(tensor.path, tensor.shape, tensor.dtype) for tensor in manifest.tensors]

        return tensors(self) == tensors(other)

    def to_json(self) -> str:
        """A JSON text from which `from_json` makes an equal manifest."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """The manifest that `to_json` wrote.

        Raises:
            ValueError: if the text is not one.
        """
        try:
            content = json.loads(text)
            tensors = tuple(
                Tensor(
                    **{
                        **tensor,
                        "path": tuple(tensor["path"]),
                        "shape": tuple(tensor["shape"]),
                        "initial": InitialValues(**tensor["initial"]),
                    }
                )
                for tensor in content["tensors"]
            )
            return cls(tensors, content["hashed_set"])
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the JSON text of a manifest: {error}") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the JSON text, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _at(tree: Params, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _layer_kind(module: nn.Module) -> str:
    if isinstance(module, nn.BatchNorm):
        return "batch_norm"
    if isinstance(module, nn.Conv | nn.ConvLocal | nn.ConvTranspose):
        return "conv"
    if isinstance(module, nn.Dense | nn.DenseGeneral):
        return "dense"
    return type(module).__name__


def _trace(
    model: nn.Module, input_shape: tuple[int, ...]
) -> tuple[list[Tensor], dict[Path, Initializer]]:
    """Traces `model.init` without running it.

    Returns:
        The tensors in order of creation, none of them hashed and nothing measured; and for each
        path a function of a key alone that draws its initial value.
    """
    layers: dict[Path, str] = {}
    initializers: dict[Path, Initializer] = {}
    tensors: list[Tensor] = []

    def init(key: jax.Array) -> Params:
        images = jnp.zeros(input_shape, jnp.float32)
        return model.init({"params": key, "dropout": key}, images, train=False)["params"]

    def record_layer(call, args, kwargs, context):
        layers[context.module.path] = _layer_kind(context.module)
        return call(*args, **kwargs)

    def record_initializer(scope, name, init_fn, *args, **kwargs):
        value = scope_param(scope, name, init_fn, *args, **kwargs)
        kwargs = {key: kwargs[key] for key in kwargs if key != "unbox"}
        if not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((args, kwargs))):
            initializers[(*scope.path, name)] = lambda key: meta.unbox(
                init_fn(key, *args, **kwargs)
            )
        return value

    def walk(tree: Params, path: Path) -> None:
        for key, value in tree.items():
            if isinstance(value, Mapping):
                walk(value, (*path, key))
                continue
            tensors.append(
                Tensor(
                    path=(*path, key),
                    shape=tuple(value.shape),
                    dtype=value.dtype.name,
                    layer=layers.get(path, ""),
                    hashed=False,
                    reason="",
                    initial=initial_values.UNKNOWN,
                )
            )

    def traced(key: jax.Array) -> None:
        # Flax has no hook for initializers, and running each alone is far cheaper than running
        # the model's whole `init` as often as its smallest tensor needs.
        with (
            nn.intercept_methods(record_layer),
            mock.patch.object(flax.core.Scope, "param", record_initializer),
        ):
            params = init(key)
        # The order is read here, inside the trace: a dict that leaves it comes back sorted.
        walk(params, ())

    scope_param = flax.core.Scope.param
    jax.eval_shape(traced, jax.random.key(0))
    if not tensors:
        raise ValueError(f"{type(model).__name__} has no trainable tensor")

    def draw_whole(path: Path) -> Initializer:
        return lambda key: _at(init(key), path)

    def shape_of(initializer: Initializer) -> tuple[int, ...] | None:
        try:
            return jax.eval_shape(initializer, jax.random.key(0)).shape
        except jax.errors.UnexpectedTracerError:
            return None

    for tensor in tensors:
        # A lifted transformation (scan, vmap) creates a tensor of more axes than its initializer
        # gave: the whole init has to be run for it.
        initializer = initializers.get(tensor.path)
        if initializer is None or shape_of(initializer) != tensor.shape:
            initializers[tensor.path] = draw_whole(tensor.path)
    return tensors, initializers


def _hashed_by(choice: str, tensors: list[Tensor]) -> set[Path]:
    candidates = [tensor for tensor in tensors if tensor.layer != "batch_norm"]
    if choice == "all":
        chosen = candidates
    elif choice == "conv":
        chosen = [tensor for tensor in candidates if tensor.layer == "conv"]
    elif choice == "kernels":
        chosen = [tensor for tensor in candidates if len(tensor.shape) >= 2]
    else:
        try:
            pattern = re.compile(choice)
        except re.error as error:
            raise ValueError(
                f"hashed={choice!r} is neither one of {', '.join(PRESETS)} "
                f"nor a regular expression: {error}"
            ) from error
        chosen = [tensor for tensor in candidates if pattern.search(tensor.name)]
    if not chosen:
        some = ", ".join(tensor.name for tensor in candidates[:4])
        raise ValueError(
            f"hashed={choice!r} matches no tensor that can be hashed; "
            f"the presets are {', '.join(PRESETS)}, and names look like {some}"
        )
    return {tensor.path for tensor in chosen}


def _decide(tensor: Tensor, chosen: bool) -> Tensor:
    """Marks a tensor as hashed, or as stored with the reason."""
    initial = tensor.initial
    if tensor.layer == "batch_norm":
        reason = "batch norm"
    elif not chosen:
        reason = "not in the hashed set"
    elif abs(initial.mean) > _MAX_RELATIVE_MEAN * initial.stddev:
        reason = "initial values do not average to 0"
    elif initial.distribution == "fixed":
        reason = "initial values are fixed"
    else:
        reason = ""
    return dataclasses.replace(tensor, hashed=not reason, reason=reason)
