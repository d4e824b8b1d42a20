"""A trained model that is complete in itself."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from smh_jax import models
from smh_jax.config.names import check_choice
from smh_jax.manifest import Params
from smh_jax.methods import Method, Variables
from smh_jax.methods.rounding import PRECISIONS, dequantize, quantize
from smh_jax.shipping.artifact.image_files import Preprocessing
from smh_jax.shipping.artifact.layout import is_quantized
from smh_jax.training import forward


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A base model of this project: arguments of `smh_jax.models.create`."""

    name: str
    num_classes: int
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def create(self) -> nn.Module:
        """The Flax module."""
        return models.create(self.name, num_classes=self.num_classes, **self.options)


@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
    """A trained model: what `smh_jax.save` writes and `smh_jax.load` reads.

    Attributes:
        method: how the weights are made, with the manifest.
        stored: the method's variables; pools may be in another dtype than that of their use, or
            `Quantized`.
        model_state: the model's other collections (batch statistics).
        precision: of the pools: 'float32' (as they were trained), 'bfloat16', 'int8' or 'int4'.
        model: the base model; None if it is not one of this project's.
        preprocessing: of the images; None if unknown.
        class_names: in order of the logits; () if unknown.
        accuracy: what was measured of it, such as {'split': 'test', 'accuracy': 0.99, ...}.
        provenance: where it comes from: command, versions, dataset, steps.
    """

    method: Method
    stored: Variables
    model_state: Mapping[str, Any]
    precision: str = "float32"
    model: ModelSpec | None = None
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()
    accuracy: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def at(self, precision: str) -> "Artifact":
        """The same model with its pools stored at a precision; without pools, the model itself.

        Raises:
            ValueError: for an unknown precision, or if the pools are stored in fewer bits already.
        """
        check_choice("precision", precision, PRECISIONS)
        if self.precision == precision or "pools" not in self.stored:
            return self
        if self.precision != "float32":
            raise ValueError(
                f"precision={precision!r}: the pools are stored as {self.precision} already; "
                "start from a float32 artifact"
            )

        def store(pool: jax.Array) -> Any:
            if precision == "bfloat16":
                return jnp.asarray(pool).astype(jnp.bfloat16)
            return _quantize(pool, precision)

        pools = jax.tree.map(store, self.stored["pools"])
        stored = {**self.stored, "pools": pools}
        return dataclasses.replace(self, stored=stored, precision=precision, accuracy={})

    @cached_property
    def variables(self) -> Variables:
        """The method's variables, on the default device."""
        return jax.jit(self.restore)(self.stored)

    def restore(self, stored: Variables) -> Variables:
        """The variables of their stored form; pure, to be called inside `jit`."""

        def restore(leaf: Any, like: jax.ShapeDtypeStruct) -> jax.Array:
            return (dequantize(leaf) if is_quantized(leaf) else leaf).astype(like.dtype)

        return jax.tree.map(restore, stored, self.method.abstract_variables, is_leaf=is_quantized)

    @cached_property
    def params(self) -> Params:
        """All weights, as the base model's `init` gives them."""
        return jax.jit(self.method.materialize)(self.variables)

    @cached_property
    def module(self) -> nn.Module:
        """The base model; raises ValueError if it is not one of this project's."""
        if self.model is None:
            raise ValueError(
                "the artifact does not name a model of smh_jax.models: "
                "apply your own module to its params and model_state"
            )
        return self.model.create()

    def logits(self, images: Any) -> jax.Array:
        """Logits [batch, classes] of preprocessed images [batch, height, width, channels]."""
        return _logits(self.module, self.params, dict(self.model_state), images)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities [batch, classes] of images [batch, height, width, channels] of uint8.

        Raises:
            ValueError: if the preprocessing is unknown, or the images are not as it makes them.
        """
        if self.preprocessing is None:
            raise ValueError("the artifact does not say how images are preprocessed: use logits")
        return np.asarray(jax.nn.softmax(self.logits(self.preprocessing.normalize(images))))


_logits = jax.jit(forward.logits_of_params, static_argnums=0)
_quantize = jax.jit(quantize, static_argnums=1)
