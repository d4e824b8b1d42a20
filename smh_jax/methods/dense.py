"""The uncompressed baseline: every weight is its own variable."""

import dataclasses
from typing import ClassVar

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
        reason = "method dense"
        names = {tensor.name: reason for tensor in self.manifest.hashed}
        object.__setattr__(self, "manifest", self.manifest.store(names))

    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        """See `Method.init`."""
        if params is not None:
            return {"stored": self.manifest.leaves(params)}
        return {"stored": init_stored(self.manifest.tensors, key)}

    def fit(self, params: Params) -> Variables:
        """See `Method.fit`; a copy."""
        leaves = self.manifest.leaves(params)
        return {"stored": {name: jnp.asarray(leaf) for name, leaf in leaves.items()}}

    def materialize(self, variables: Variables) -> Params:
        """See `Method.materialize`."""
        return self.manifest.tree(variables["stored"])
