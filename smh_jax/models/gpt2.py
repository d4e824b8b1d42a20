"""Language models of GPT-2's shape (Radford et al. 2019, section 2.3 and table 2)."""

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import layers
from smh_jax.models.base import Model, Variant
from smh_jax.models.transformer import Block

HEAD_WIDTH = 64


class GPT2(Model, kw_only=True):
    """A transformer that tells what follows each token of a text from those up to it.

    The table of embedded tokens is that of the last layer, too.

    Attributes (besides those of `Model`):
        num_classes: size of the vocabulary.
        width_multiplier: multiplies the heads' width.
        num_heads: each 64 wide; together they are the width.
        depth: number of blocks.
        max_length: tokens of the longest text, each place of which has a vector of its own.
        dropout_rate: of the embedded tokens, of the attention's shares and of either branch.
        layer_norm_epsilon: added to the layer norms' variances.
        initial_deviation: standard deviation of the initial kernels and tokens; of positions half
            as much, as in the authors' code. 0.02 is published, for a width of 768 and more. What a
            narrower model needs grows with 1 / sqrt(width) (Qiu et al. 2024, arXiv:2406.06248).
    """

    takes: ClassVar[str] = "tokens"

    num_heads: int
    depth: int
    max_length: int = 1024
    dropout_rate: float = 0.0
    layer_norm_epsilon: float = 1e-5
    initial_deviation: float = 0.02

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        """Logits [batch, length, num_classes] in float32 for int tokens [batch, length].

        Raises:
            ValueError: for what is no tokens, or too many of them, or a width without a channel.
        """
        for field in ("num_heads", "depth", "max_length"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)} must be at least 1")
        if not self.initial_deviation > 0:
            raise ValueError(f"initial_deviation={self.initial_deviation} must be above 0")
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise ValueError(
                f"tokens of {tokens.dtype} {tokens.shape} must be whole numbers [batch, length]"
            )
        length = tokens.shape[1]
        if length > self.max_length:
            raise ValueError(
                f"max_length={self.max_length} is below the {length} tokens of the texts"
            )
        width = self.num_heads * layers.scale_width(HEAD_WIDTH, self.width_multiplier)
        kernel_init = nn.initializers.normal(self.initial_deviation)
        position_init = nn.initializers.normal(self.initial_deviation / 2)
        embedding = self.param("embedding", kernel_init, (self.num_classes, width))
        embedding = embedding.astype(self.dtype)
        positions = self.param("positions", position_init, (self.max_length, width))
        x = jnp.take(embedding, tokens, axis=0, mode="clip")
        x = x + positions[jnp.newaxis, :length].astype(self.dtype)
        x = nn.Dropout(self.dropout_rate, name="dropout")(x, deterministic=not train)
        # Of what is added to the stream, so that its variance does not grow with the depth.
        output_init = nn.initializers.normal(self.initial_deviation / math.sqrt(2 * self.depth))
        for index in range(self.depth):
            x = Block(
                self.num_heads,
                causal=True,
                kernel_init=kernel_init,
                output_init=output_init,
                approximate_gelu=True,
                epsilon=self.layer_norm_epsilon,
                dropout_rate=self.dropout_rate,
                attention_dropout_rate=self.dropout_rate,
                stochastic_depth_rate=0.0,
                dtype=self.dtype,
                name=f"block{index + 1}",
            )(x, train)
        x = nn.LayerNorm(self.layer_norm_epsilon, dtype=self.dtype, name="norm")(x)
        return jnp.einsum("blw,vw->blv", x, embedding).astype(jnp.float32)


VARIANTS = {
    f"gpt2_{size}": Variant(GPT2, 1024, defaults={"num_heads": num_heads, "depth": depth})
    for size, num_heads, depth in (
        ("small", 12, 12),
        ("medium", 16, 24),
        ("large", 20, 36),
        ("xl", 25, 48),
    )
}
