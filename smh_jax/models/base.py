"""What the models of every family take."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from smh_jax.models import layers


class ImageModel(nn.Module, kw_only=True):
    """A classifier of images, called with `(images, train)`.

    Attributes:
        num_classes: number of logits.
        width_multiplier: multiplies the widths; each family says which.
        input_resolution: side to which images are up-sampled first; 0 leaves them as they are.
        dtype: of the computation (parameters are float32).
        bn_momentum, bn_epsilon: of the batch norms.
        axis_name: mapped axis over which batch statistics are averaged, or None.
        axis_groups: replicas along it in groups that average among themselves, or None for all.
    """

    num_classes: int
    width_multiplier: float = 1.0
    input_resolution: int = 0
    dtype: Any = "float32"
    bn_momentum: float
    bn_epsilon: float
    axis_name: str | None = None
    axis_groups: Sequence[Sequence[int]] | None = None

    def norm(self, train: bool) -> layers.ModuleDef:
        """A constructor of the model's batch norms; see `layers.batch_norm`."""
        return layers.batch_norm(
            train,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            axis_name=self.axis_name,
            axis_groups=self.axis_groups,
            dtype=self.dtype,
        )
