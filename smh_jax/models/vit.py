"""Vision Transformers (Dosovitskiy et al. 2021, arXiv:2010.11929) in the sizes of DeiT.

Ti and S are from Touvron et al. 2021 (arXiv:2012.12877, table 1), B is the same in both.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import layers
from smh_jax.models.base import ImageModel, Variant
from smh_jax.models.transformer import Block

HEAD_WIDTH = 64
# Of the authors' code, whose deviations follow the widths. What starts at 0 there, class token and
# classifier, starts as in DeiT.
kernel_init = nn.initializers.xavier_uniform()
patch_init = nn.initializers.lecun_normal()
token_init = nn.initializers.truncated_normal(0.02)


class VisionTransformer(ImageModel, kw_only=True):
    """Vision Transformer that classifies by a token of its own; images are cut into patches.

    Attributes (besides those of `ImageModel`):
        num_heads: each 64 wide; together they are the width.
        width_multiplier: multiplies the heads' width.
        patch_size: side of a patch in pixels, which divides both sides of the images.
        depth: number of blocks.
        dropout_rate: of the embedded patches and of what attention and dense layers give.
        stochastic_depth_rate: of the last block; it rises linearly from 0 in the first.
        layer_norm_epsilon: added to the layer norms' variances.
    """

    num_heads: int
    patch_size: int = 16
    depth: int = 12
    dropout_rate: float = 0.0
    stochastic_depth_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        if self.patch_size < 1 or self.depth < 1:
            raise ValueError(
                f"patch_size={self.patch_size} and depth={self.depth} must be at least 1"
            )
        width = self.num_heads * layers.scale_width(HEAD_WIDTH, self.width_multiplier)
        images = layers.model_input(images, self.input_resolution, total_stride=self.patch_size)
        sides = images.shape[1:3]
        if any(side % self.patch_size for side in sides):
            raise ValueError(
                f"patch_size={self.patch_size} does not divide images of {sides[0]}x{sides[1]}; "
                f"those of {sides[0]} pixels are divided by "
                f"{', '.join(str(n) for n in range(1, sides[0] + 1) if sides[0] % n == 0)}"
            )
        patches = nn.Conv(
            width,
            (self.patch_size, self.patch_size),
            strides=self.patch_size,
            padding="VALID",
            kernel_init=patch_init,
            dtype=self.dtype,
            name="patches",
        )(images)
        batch, height, columns, _ = patches.shape
        x = patches.reshape(batch, height * columns, width)
        token = self.param("class_token", token_init, (1, 1, width))
        token = jnp.broadcast_to(token.astype(self.dtype), (batch, 1, width))
        x = jnp.concatenate([token, x], axis=1)
        positions = self.param("positions", token_init, (1, x.shape[1], width))
        x = x + positions.astype(self.dtype)
        x = nn.Dropout(self.dropout_rate, name="dropout")(x, deterministic=not train)
        for index in range(self.depth):
            x = Block(
                self.num_heads,
                causal=False,
                kernel_init=kernel_init,
                output_init=kernel_init,
                approximate_gelu=False,
                epsilon=self.layer_norm_epsilon,
                dropout_rate=self.dropout_rate,
                attention_dropout_rate=0.0,
                stochastic_depth_rate=self.stochastic_depth_rate * index / max(1, self.depth - 1),
                dtype=self.dtype,
                name=f"block{index + 1}",
            )(x, train)
        norm = nn.LayerNorm(self.layer_norm_epsilon, dtype=self.dtype, name="norm")
        return self.classify(norm(x)[:, 0], token_init)


VARIANTS = {
    f"vit_{size}16": Variant(VisionTransformer, 224, {"num_heads": num_heads})
    for size, num_heads in (("ti", 3), ("s", 6), ("b", 12))
}
