"""One trainable tensor of a model as data."""

import dataclasses
import math
from typing import Any

from smh_jax.manifest.initial_values import InitialValues

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
