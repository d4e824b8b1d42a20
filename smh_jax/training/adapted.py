"""Frozen weights of a trained run, to which the weights that a method makes are added.

An adapter of any method: all that it generates are differences, which share its pools and have a
scale each that starts at 0, so that training starts from what the run had learned. The frozen
weights are a collection of the model, next to its batch statistics: no optimizer sees them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.manifest import Manifest, Params

COLLECTION = "frozen"


@dataclasses.dataclass(frozen=True)
class Adapted:
    """A model whose weights are its params and frozen ones together.

    It has of a Linen module what is called of one.

    Attributes:
        model: the Linen module.
    """

    model: nn.Module

    @property
    def num_classes(self) -> int:
        """Of the model."""
        return self.model.num_classes

    def clone(self, **fields: Any) -> "Adapted":
        """With other fields of the model."""
        return Adapted(self.model.clone(**fields))

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The model's own collections; its params are the frozen ones, to which 0 is added."""
        collections = dict(self.model.init(rngs, *args, **kwargs))
        params = collections["params"]
        return {**collections, "params": jax.tree.map(jnp.zeros_like, params), COLLECTION: params}

    def apply(
        self,
        variables: dict[str, Any],
        *args: Any,
        mutable: bool | Sequence[str] = False,
        **kwargs: Any,
    ) -> Any:
        """As the model's own `apply`; the frozen collection never changes."""
        params, state = merged(variables)
        if mutable is not False:
            mutable = [name for name in mutable if name != COLLECTION]
        return self.model.apply({"params": params, **state}, *args, mutable=mutable, **kwargs)


def merged(collections: dict[str, Any]) -> tuple[Params, dict[str, Any]]:
    """Plain weights and the other collections but the frozen one, of a model adapted or not."""
    others = {name: c for name, c in collections.items() if name not in ("params", COLLECTION)}
    params = collections["params"]
    if COLLECTION in collections:
        params = jax.tree.map(jnp.add, collections[COLLECTION], params)
    return params, others


def manifest_of(
    model: nn.Module | Adapted, example: jax.ShapeDtypeStruct, *, hashed: str, measure: bool
) -> Manifest:
    """The manifest of a model's params; those of an adapted one are differences, which start at 0.

    For the other arguments see `Manifest.from_model`.
    """
    is_adapted = isinstance(model, Adapted)
    manifest = Manifest.from_model(
        model.model if is_adapted else model,
        example,
        hashed=hashed,
        measure=measure and not is_adapted,
        example_kwargs={"train": False},
    )
    return manifest.of_differences() if is_adapted else manifest
