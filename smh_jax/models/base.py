"""What the models of every family share, and what a model's name stands for."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import layers


class Model(nn.Module, kw_only=True):
    """What the models of every family have.

    Attributes:
        takes: 'images', float32 [batch, height, width, channels], or 'tokens', int32 [batch,
            length].
        num_classes: number of logits.
        width_multiplier: multiplies the widths; each family says which.
        dtype: of the computation; parameters and statistics of batch norms are float32.
        axis_name: mapped axis over which batch statistics are averaged, or None.
        axis_groups: replicas along it in groups that average among themselves, or None for all.
    """

    takes: ClassVar[str] = "images"

    num_classes: int
    width_multiplier: float = 1.0
    dtype: Any = "float32"
    axis_name: str | None = None
    axis_groups: Sequence[Sequence[int]] | None = None


class ImageModel(Model, kw_only=True):
    """A classifier of images.

    Attributes (besides those of `Model`):
        input_resolution: side to which images are up-sampled first; 0 leaves them as they are.
    """

    input_resolution: int = 0

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Logits [batch, num_classes] in float32 for images [batch, height, width, channels].

        Training draws from the 'dropout' random stream in the families that drop anything.

        Raises:
            ValueError: for images below the family's least side, or a width without a channel.
        """
        raise NotImplementedError

    def classify(self, features: jax.Array, kernel_init: layers.Initializer) -> jax.Array:
        """The logits in float32 of features [batch, channels]."""
        classifier = nn.Dense(
            self.num_classes, kernel_init=kernel_init, dtype=self.dtype, name="classifier"
        )
        return classifier(features).astype(jnp.float32)


class ConvNet(ImageModel, kw_only=True):
    """A classifier of images with batch norm.

    Attributes (besides those of `ImageModel`):
        bn_momentum: of the batch norms' running averages, in Flax's sense (0.9 keeps nine tenths).
        bn_epsilon: added to the batch norms' variances.
    """

    bn_momentum: float
    bn_epsilon: float

    def norm(self, train: bool) -> layers.ModuleDef:
        """A constructor of batch norms that take the batch's statistics in training only."""
        return partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            axis_name=self.axis_name,
            axis_index_groups=self.axis_groups,
            dtype=self.dtype,
        )


def blocks(repeats: Sequence[int], strides: Sequence[int]) -> Iterator[tuple[int, int, str]]:
    """The stage (from 0), stride and name of each block; only a stage's first block strides."""
    for stage, (count, stride) in enumerate(zip(repeats, strides, strict=True)):
        for block in range(count):
            yield stage, 1 if block else stride, f"stage{stage + 1}_block{block + 1}"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named member of a family.

    Attributes:
        module: the family's Flax module.
        resolution: side in pixels of the images, or number of tokens, it was published for.
        fixed: the module's fields that the name decides; a user cannot set them.
        defaults: of the module's options, where they differ from the module's own.
    """

    module: type[nn.Module]
    resolution: int
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
