"""The uncompressed baseline: every weight is its own variable."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from smh_jax.manifest import Params
from smh_jax.methods.base import Method, Variables, init_stored


@dataclasses.dataclass(frozen=True)
class Dense(Method):
    """The identity: all tensors are stored and trained as they are. It takes no target size."""

    name: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        if self.target_size is not None:
            raise ValueError(
                f"target_size={self.target_size} must be None for method 'dense', "
                f"which trains all {self.manifest.num_weights} weights"
            )
        names = [tensor.name for tensor in self.manifest.hashed]
        stored = self.manifest.store(dict.fromkeys(names, "method dense"))
        object.__setattr__(self, "manifest", stored)

    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        if params is not None:
            return {"stored": self.manifest.leaves(params)}
        return {"stored": init_stored(self.manifest.tensors, key)}

    def fit(self, params: Params) -> Variables:
        return {"stored": jax.tree.map(jnp.asarray, self.manifest.leaves(params))}

    def map_pools(self, function: Callable[[jax.Array], Any], variables: Variables) -> Variables:
        """The pools of a dense model are its kernels: all weights but vectors and batch norm."""
        kernels = [t.name for t in self.manifest.stored if len(t.shape) >= 2]
        changed = {name: function(variables["stored"][name]) for name in kernels}
        return {**variables, "stored": {**variables["stored"], **changed}}

    def materialize(self, variables: Variables) -> Params:
        return self.manifest.tree(variables["stored"])
