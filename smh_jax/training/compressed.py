"""Any model as one whose weights are generated: a Flax module whose params are the variables."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from smh_jax import methods
from smh_jax.config.randomness import purpose_key
from smh_jax.manifest import Manifest, Params
from smh_jax.methods import Method, Variables
from smh_jax.training.forward import Call


class Described:
    """What compressed modules of both of Flax's kinds say of themselves, by their `method`."""

    method: Method

    @property
    def num_variables(self) -> int:
        """Trainable elements: pools, scales and stored tensors."""
        return self.method.num_variables

    def summary(self) -> str:
        """A table of the model's tensors, and the counts."""
        return self.method.describe()

    def dense_params(self, variables: Variables) -> Params:
        """All weights, as a tree of dicts: that of the model's own `init` for a Linen module."""
        return self.method.materialize(variables)

    def _brief(self, model: Any) -> str:
        sizes = f"{self.num_variables:,} variables for {self.method.manifest.num_weights:,} weights"
        return f"Compressed({type(model).__name__}, {self.method.name}: {sizes})"


class Compressed(Described, nn.Module):
    """A model whose collection 'params' is the variables from which its weights are generated.

    `init` and `apply` take what the model's own do, names of its methods included; other
    collections and random streams pass through. It is a whole model, not a layer of another.

    Attributes:
        model: that is compressed.
        method: that generates its weights.
        call: how the model is called.
    """

    model: nn.Module
    method: Method
    call: Call

    @nn.nowrap
    def init_with_output(self, rngs: Any, *args: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
        """As `flax.linen.Module.init_with_output`; `init` is its second result."""
        output, collections = self.model.init_with_output(rngs, *args, **options)
        key = rngs["params"] if isinstance(rngs, Mapping) else rngs
        variables = self.method.init(purpose_key(key, "variables"), collections["params"])
        return output, {**collections, "params": variables}

    @nn.nowrap
    def apply(
        self, variables: Mapping[str, Any], *args: Any, mutable: Any = False, **options: Any
    ) -> Any:
        """As `flax.linen.Module.apply`; 'params' never change, even if they are mutable."""
        bound = self._dense(variables)
        output = self.model.apply(bound, *args, mutable=mutable, **options)
        if mutable is False:
            return output
        output, changed = output
        if "params" in changed:
            changed = {**changed, "params": variables["params"]}
        return output, changed

    @nn.nowrap
    def bind(self, variables: Mapping[str, Any], *args: Any, **options: Any) -> nn.Module:
        """The model itself, bound to its generated weights; as `flax.linen.Module.bind`."""
        return self.model.bind(self._dense(variables), *args, **options)

    @nn.nowrap
    def _dense(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        return {**variables, "params": self.method.materialize(variables["params"])}

    def __repr__(self) -> str:
        return self._brief(self.model)


def compress(
    model: Any,
    *example_args: Any,
    target_size: int | None = None,
    method: str = "smh",
    hashed: str = "all",
    example_kwargs: Mapping[str, Any] | None = None,
    key: jax.Array | None = None,
    **options: Any,
) -> Any:
    """The model with its weights generated from fewer variables, to be trained in its place.

    Args:
        model: a Flax Linen module, or an NNX module, which stays as it is.
        *example_args: with which a Linen module can be called: arrays, `jax.ShapeDtypeStruct`s, or
            anything else, which is passed on as it is. An NNX module needs none.
        target_size: upper bound on all trainable variables; None for method 'dense'.
        method: one of `smh_jax.methods.names()`.
        hashed: which tensors are generated; see `Manifest.from_model`.
        example_kwargs: keyword arguments of the example call, such as {'train': False}.
        key: of the variables of an NNX module, `jax.random.key(0)` if None; those of a Linen module
            are drawn by its `init`.
        **options: of the method.

    Returns:
        A `Compressed`, or for an NNX module an NNX module whose `nnx.Param`s are the variables.

    Raises:
        ValueError: if the model has no trainable tensor, or for a choice that is impossible.
    """
    kwargs = dict(example_kwargs or {})
    manifest = Manifest.from_model(model, *example_args, hashed=hashed, example_kwargs=kwargs)
    chosen = methods.create(method, manifest, target_size=target_size, **options)
    if isinstance(model, nn.Module):
        return Compressed(model, chosen, Call.of(*example_args, **kwargs))
    from smh_jax.training import compressed_nnx

    return compressed_nnx.Compressed(model, chosen, jax.random.key(0) if key is None else key)
