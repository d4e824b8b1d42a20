"""The static description of a base model's weights: what is hashed, what is stored, and where.

A manifest is made once, from a Flax model or from anything that makes parameters of a key, and is
all that the methods know of it.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from smh_jax.manifest import hashed_set, tracing
from smh_jax.manifest.initial_values import InitialValues
from smh_jax.manifest.tensor import Params, Tensor


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Every trainable tensor of a model; static and hashable.

    Attributes:
        tensors: in the order in which `model.init` creates them, which is the order of tiling
            (paper, equation 3).
        hashed_set: the choice that decided which tensors are hashed: a preset or a pattern.
    """

    tensors: tuple[Tensor, ...]
    hashed_set: str

    def __repr__(self) -> str:
        hashed = f"{self.num_hashed:,} hashed ({self.hashed_set!r}) in {len(self.hashed)} of them"
        return f"Manifest({self.num_weights:,} weights in {len(self.tensors)} tensors, {hashed})"

    @classmethod
    def from_model(
        cls,
        model: Any,
        *example_args: Any,
        input_shape: tuple[int, ...] | None = None,
        hashed: str = "all",
        measure: bool = True,
        example_kwargs: Mapping[str, Any] | None = None,
    ) -> "Manifest":
        """Describes a Flax model.

        Args:
            model: any Flax linen module; or an NNX module, which is described as it is, its values
                measured, and needs no example.
            *example_args: with which the model can be called: arrays, of which shapes and dtypes
                count, `jax.ShapeDtypeStruct`s, or anything else, which is passed on as it is.
            input_shape: in place of example arguments, the shape of one batch of images, batch
                dimension included, for a model that is called as `model(images, train)`. So is a
                tuple of integers as the only example argument.
            hashed: 'all', 'conv', 'kernels', or a regular expression that is searched in the
                tensors' names ('stage3_.*/kernel'). Batch norm is stored whatever is chosen, and
                so is a tensor whose initial values do not average to 0.
            measure: whether the initializers are run and measured. Without, nothing is allocated,
                every statistic is nan, and the manifest is good for counting only.
            example_kwargs: keyword arguments of the call, such as {'deterministic': True}.

        Raises:
            ValueError: if `hashed` is not a valid expression or matches no tensor, or if the model
                has no trainable tensor or two of one name.
        """
        kwargs = dict(example_kwargs or {})
        if len(example_args) == 1 and _is_shape(example_args[0]):
            (input_shape,) = example_args
        if input_shape is not None:
            example_args = (jax.ShapeDtypeStruct(input_shape, jnp.float32),)
            kwargs = {"train": False, **kwargs}
        if isinstance(model, nn.Module):
            tensors = tracing.of_linen(model, example_args, kwargs, measure)
        else:
            # Who has an NNX module has imported NNX, and nobody else needs to.
            from smh_jax.manifest import nnx_modules

            tensors = nnx_modules.tensors(model)
        return cls(hashed_set.decide(tensors, hashed), hashed)

    @classmethod
    def from_init(
        cls, init: Callable[..., Any], *args: Any, hashed: str = "all", measure: bool = True
    ) -> "Manifest":
        """Describes the parameters that any function makes, of whatever framework.

        Args:
            init: is called as `init(key, *args)`, with a typed key of `jax.random`, and gives a
                pytree of arrays, such as Haiku's `init` or `lambda key: equinox.filter(model(key),
                equinox.is_array)`. A tensor's name is the path of dict keys, indices and
                attributes to it; `fill` puts weights back into such a tree. Layers are unknown:
                'conv' matches none.
            *args: passed on.
            hashed, measure: as in `from_model`.

        Raises:
            ValueError: as `from_model`, and for a leaf that is no array.
        """
        tensors = tracing.trace(lambda key: init(key, *args), measure)
        return cls(hashed_set.decide(tensors, hashed), hashed)

    @classmethod
    def joined(cls, manifests: Mapping[str, "Manifest"], hashed: str = "all") -> "Manifest":
        """The manifest of several models together, such as those that are to share their pools.

        Args:
            manifests: by the models' names, which come before their tensors': 'digits/conv/kernel'.
            hashed: as in `from_model`, of all of them.
        """
        tensors = [
            dataclasses.replace(tensor, path=(name, *tensor.path))
            for name, manifest in manifests.items()
            for tensor in manifest.tensors
        ]
        return cls(hashed_set.decide(tensors, hashed), hashed)

    def part(self, name: str) -> "Manifest":
        """Of a joined manifest that of one model, less its name."""
        tensors = (
            dataclasses.replace(tensor, path=tensor.path[1:])
            for tensor in self.tensors
            if tensor.path[0] == name
        )
        return Manifest(tuple(tensors), self.hashed_set)

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
        ends = itertools.accumulate((tensor.size for tensor in self.hashed), initial=0)
        return {tensor.name: start for tensor, start in zip(self.hashed, ends, strict=False)}

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
        tensors = (
            dataclasses.replace(tensor, hashed=False, reason=names[tensor.name])
            if tensor.name in names
            else tensor
            for tensor in self.tensors
        )
        return dataclasses.replace(self, tensors=tuple(tensors))

    def with_hashed(self, hashed: str) -> "Manifest":
        """The same tensors with another choice of what is hashed; see `from_model`."""
        return Manifest(hashed_set.decide(self.tensors, hashed), hashed)

    def of_differences(self) -> "Manifest":
        """The manifest of what is added to these tensors: all of it starts at 0."""
        zero = InitialValues(0.0, 0.0, "constant")
        tensors = tuple(dataclasses.replace(tensor, initial=zero) for tensor in self.tensors)
        return Manifest(hashed_set.decide(tensors, self.hashed_set), self.hashed_set)

    def tree(self, leaves: Mapping[str, Any]) -> Params:
        """The params tree whose leaf at each tensor's path is `leaves[tensor.name]`."""
        return unflatten_dict({tensor.path: leaves[tensor.name] for tensor in self.tensors})

    def leaves(self, params: Params) -> dict[str, Any]:
        """The inverse of `tree`: leaves of a params tree by tensor name, out of Flax's boxes.

        The tree may be of any kind that `from_init` takes.

        Raises:
            ValueError: unless the tree has exactly the manifest's paths and shapes.
        """
        given = {"/".join(path): leaf for path, leaf in tracing.walk(params)}
        wanted = {tensor.name: tensor.shape for tensor in self.tensors}
        wrong = [f"{name} is missing" for name in wanted if name not in given]
        wrong += [f"{name} is not a tensor of the model" for name in given if name not in wanted]
        wrong += [
            f"{name} is {np.shape(given[name])}, not {shape}"
            for name, shape in wanted.items()
            if name in given and np.shape(given[name]) != shape
        ]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ValueError(f"the params are not of this model: {'; '.join(wrong[:3])}{more}")
        return {name: given[name] for name in wanted}

    def fill(self, like: Any, params: Params) -> Any:
        """A pytree of the kind of `like`, such as `from_init` took, with the leaves of `params`."""
        leaves = self.leaves(params)
        return jax.tree_util.tree_map_with_path(
            lambda path, _: leaves[jax.tree_util.keystr(path, simple=True, separator="/")], like
        )

    def same_tensors(self, other: "Manifest") -> bool:
        """Whether both describe tensors of the same paths, shapes and dtypes in the same order."""

        ours, theirs = ([(t.path, t.shape, t.dtype) for t in m.tensors] for m in (self, other))
        return ours == theirs

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
            tensors = []
            for fields in content["tensors"]:
                fields |= {name: tuple(fields[name]) for name in ("path", "shape")}
                tensors.append(Tensor(**fields | {"initial": InitialValues(**fields["initial"])}))
            return cls(tuple(tensors), content["hashed_set"])
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the JSON text of a manifest: {error}") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the JSON text, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _is_shape(argument: Any) -> bool:
    return isinstance(argument, tuple) and all(isinstance(size, int) for size in argument)
