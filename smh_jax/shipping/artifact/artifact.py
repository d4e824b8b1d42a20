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
from smh_jax.manifest import Params
from smh_jax.methods import Method, Variables
from smh_jax.methods.rounding import dequantize, parse, quantize, quantize_small
from smh_jax.shipping.artifact.layout import is_quantized
from smh_jax.training import forward, tasks
from smh_jax.training.adapted import Adapted


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A base model of this project: arguments of `smh_jax.models.create`.

    Attributes:
        name, num_classes, options: of the model.
        adapted: whether the method's weights are added to frozen ones, which are with the model's
            batch statistics.
    """

    name: str
    num_classes: int
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    adapted: bool = False

    def create(self) -> nn.Module | Adapted:
        """The Flax module."""
        model = models.create(self.name, num_classes=self.num_classes, **self.options)
        return Adapted(model) if self.adapted else model


@dataclasses.dataclass(frozen=True)
class OwnModel:
    """A base model that no file holds.

    Attributes:
        module: has `apply`, as a Linen module.
        call: how it is called; None if unknown.
    """

    module: Any
    call: forward.Call | None

    @classmethod
    def of(cls, compressed: Any) -> "OwnModel":
        """Of what `smh_jax.compress` gave for a module of either kind of Flax's."""
        return cls(compressed.module, compressed.call)


@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
    """A trained model: what `smh_jax.save` writes and `smh_jax.load` reads.

    Attributes:
        method: how the weights are made, with the manifest.
        stored: the method's variables; pools may be in another dtype than that of their use, or
            `Quantized`.
        model_state: the model's other collections (batch statistics), rounded already if a file
            holds them in fewer bits.
        precision: of the pools: 'float32' (as they were trained), or another one of
            `smh_jax.methods.rounding`.
        model: the base model: one of this project's by name, or one of your own as
            `smh_jax.compress` gave it, which no file holds; None if unknown.
        preprocessing: of the inputs, as the task has it; None if unknown.
        class_names: in order of the logits; () if unknown.
        accuracy: what was measured of it, such as {'split': 'test', 'accuracy': 0.99, ...}.
        provenance: where it comes from: command, versions, dataset, steps.
    """

    method: Method
    stored: Variables
    model_state: Mapping[str, Any]
    precision: str = "float32"
    model: ModelSpec | OwnModel | None = None
    preprocessing: tasks.Preprocessing | None = None
    class_names: tuple[str, ...] = ()
    accuracy: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        model = "unknown model"
        if isinstance(self.model, ModelSpec):
            model = self.model.name
        elif self.model is not None:
            model = type(self.model.module).__name__
        measured = ""
        if "accuracy" in self.accuracy:
            measured = f", accuracy {self.accuracy['accuracy']:.2%}"
        return f"Artifact({model}, {self.method!r}, {self.precision}{measured})"

    @classmethod
    def of(cls, compressed: Any, collections: Mapping[str, Any] | None = None) -> "Artifact":
        """A trained model of your own.

        Args:
            compressed: what `smh_jax.compress` gave.
            collections: of a Linen module's `apply`; an NNX module holds its own.
        """
        model_state = dict(compressed.collections if collections is None else collections)
        variables = dict(model_state.pop("params"))
        return cls(compressed.method, variables, model_state, model=OwnModel.of(compressed))

    def with_model(self, compressed: Any) -> "Artifact":
        """This artifact, loaded from a file, with the model of your own that it was made of.

        Raises:
            ValueError: if the model has other tensors.
        """
        if not self.method.manifest.same_tensors(compressed.method.manifest):
            raise ValueError(f"the model has other tensors than those of {compressed!r}")
        return dataclasses.replace(self, model=OwnModel.of(compressed))

    def at(self, precision: str) -> "Artifact":
        """The same model with its pools stored at a precision; of 'dense' the kernels.

        At precision 'coded' all other numbers are stored in 8 bits each.

        Raises:
            ValueError: for an unknown precision, or if the pools are stored in fewer bits already.
        """
        kind, _ = parse(precision)
        if self.precision == precision:
            return self
        if self.precision != "float32":
            raise ValueError(
                f"precision={precision!r}: the pools are stored as {self.precision} already; "
                "start from a float32 artifact"
            )

        def store(pool: jax.Array) -> Any:
            if kind == "bfloat16":
                return jnp.asarray(pool).astype(jnp.bfloat16)
            return _quantize(pool, precision)

        stored, state = self.method.map_pools(store, self.stored), dict(self.model_state)
        if kind == "coded":
            stored, state = small(stored), restored(small(state), state)
        return dataclasses.replace(
            self, stored=stored, model_state=state, precision=precision, accuracy={}
        )

    @cached_property
    def variables(self) -> Variables:
        """The method's variables, on the default device."""
        return jax.jit(self.restore)(self.stored)

    def restore(self, stored: Variables) -> Variables:
        """The variables of their stored form; pure, to be called inside `jit`."""

        return restored(stored, self.method.abstract_variables)

    @cached_property
    def params(self) -> Params:
        """All weights, as the base model's `init` gives them."""
        return jax.jit(self.method.materialize)(self.variables)

    @cached_property
    def module(self) -> Any:
        """The base model, which has `apply`; raises ValueError if it is unknown."""
        if self.model is None:
            raise ValueError(
                "the artifact does not name a model of smh_jax.models: load it with model=..., "
                "as smh_jax.compress gives it, or apply your own module to its params and "
                "model_state"
            )
        return self.model.create() if isinstance(self.model, ModelSpec) else self.model.module

    @property
    def call(self) -> forward.Call:
        """How the base model is called; raises ValueError if it is unknown."""
        if not isinstance(self.model, OwnModel):
            return forward.OURS
        if self.model.call is None:
            raise ValueError(
                "how the module is called is unknown: give smh_jax.compress example arguments"
            )
        return self.model.call

    @property
    def task(self) -> tasks.Task:
        """What it was trained for."""
        known = self.preprocessing is not None
        return tasks.of_name(self.preprocessing.task) if known else tasks.DEFAULT

    def logits(self, *inputs: Any) -> Any:
        """The model's outputs: logits [batch, ..., classes] of preprocessed inputs.

        Args:
            *inputs: images [batch, height, width, channels], tokens [batch, length], or the arrays
                among the arguments of a model of your own, in the order of `compress`'s example.
        """
        return _outputs(self.module, self.call, self.params, dict(self.model_state), *inputs)

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Probabilities [batch, classes] of images [batch, height, width, channels] of uint8.

        Of tokens [batch, length], those of the next one after each, [batch, length, classes].

        Raises:
            ValueError: if the preprocessing is unknown, or the inputs are not as it makes them.
        """
        if self.preprocessing is None:
            raise ValueError("the artifact does not say how images are preprocessed: use logits")
        return np.asarray(jax.nn.softmax(self.logits(self.preprocessing.normalize(inputs))))


def small(tree: Any) -> Any:
    """A tree with 8 bits for each real number that is not quantized yet.

    What they stand for has the same 8 bits again.
    """

    def store(leaf: Any) -> Any:
        is_number = not is_quantized(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return quantize_small(leaf) if is_number else leaf

    return jax.tree.map(store, tree, is_leaf=is_quantized)


def restored(stored: Any, like: Any) -> Any:
    """A tree as it is used, of its stored form and a tree of the right dtypes; pure."""

    def restore(leaf: Any, like: Any) -> jax.Array:
        return (dequantize(leaf) if is_quantized(leaf) else leaf).astype(like.dtype)

    return jax.tree.map(restore, stored, like, is_leaf=is_quantized)


_outputs = jax.jit(forward.outputs, static_argnums=(0, 1))
_quantize = jax.jit(quantize, static_argnums=1)
