"""What a model's name stands for."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named member of a family.

    Attributes:
        module: the family's Flax module.
        resolution: side in pixels of the images it was published for.
        fixed: the module's fields that the name decides; a user cannot set them.
        defaults: of the module's options, where they differ from the module's own.
    """

    module: type[nn.Module]
    resolution: int
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
