"""Any model as one whose weights are generated: a Flax module whose params are the variables."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from smh_jax.config.randomness import purpose_key
from smh_jax.manifest import Params
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

    @property
    @nn.nowrap
    def module(self) -> nn.Module:
        """The model itself, to be applied to its weights and other collections."""
        return self.model

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
