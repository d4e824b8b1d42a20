"""The blocks of transformers (Vaswani et al. 2017, arXiv:1706.03762) that normalize first."""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.models import layers


class SelfAttention(nn.Module):
    """Attention of several heads among the positions of a sequence.

    Attributes:
        num_heads: that divide the width.
        causal: each position sees itself and those before it only.
        dropout_rate: of the shares with which positions are seen.
        kernel_init, output_init: of the kernels before and after the attention.
        dtype: of the computation; shares are computed in float32.
    """

    num_heads: int
    causal: bool
    dropout_rate: float
    kernel_init: layers.Initializer
    output_init: layers.Initializer
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [batch, length, width] to the same shape."""
        batch, length, width = x.shape
        dense = partial(nn.Dense, dtype=self.dtype)
        qkv = dense(3 * width, kernel_init=self.kernel_init, name="qkv")(x)
        heads = (batch, length, self.num_heads, width // self.num_heads)
        query, key, value = (part.reshape(heads) for part in jnp.split(qkv, 3, axis=-1))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key).astype(jnp.float32)
        scores = scores / math.sqrt(heads[-1])
        if self.causal:
            position = jnp.arange(length)
            seen = position[:, jnp.newaxis] >= position[jnp.newaxis]
            scores = jnp.where(seen[jnp.newaxis, jnp.newaxis], scores, -jnp.inf)
        shares = nn.softmax(scores).astype(self.dtype)
        shares = nn.Dropout(self.dropout_rate, name="dropout")(shares, deterministic=not train)
        attended = jnp.einsum("bhqk,bkhd->bqhd", shares, value).reshape(batch, length, width)
        return dense(width, kernel_init=self.output_init, name="output")(attended)


class Block(nn.Module):
    """Attention, then two dense layers, each after a layer norm and added to what came in.

    Attributes:
        num_heads, causal: of the attention.
        kernel_init: of all kernels but those named next.
        output_init: of the last kernel of either branch.
        approximate_gelu: by tanh, as in GPT-2; False: exact.
        epsilon: added to the layer norms' variances.
        dropout_rate: of what either branch gives.
        attention_dropout_rate: of the attention's shares.
        stochastic_depth_rate: probability of dropping a branch, per example (Huang et al. 2016);
            what is kept is divided by one minus the rate.
        dtype: of the computation.
    """

    num_heads: int
    causal: bool
    kernel_init: layers.Initializer
    output_init: layers.Initializer
    approximate_gelu: bool
    epsilon: float
    dropout_rate: float
    attention_dropout_rate: float
    stochastic_depth_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [batch, length, width] to the same shape."""
        width = x.shape[-1]
        norm = partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        dense = partial(nn.Dense, dtype=self.dtype)

        def drop(branch: jax.Array, number: int) -> jax.Array:
            dropout = nn.Dropout(self.dropout_rate, name=f"dropout{number}")
            branch = dropout(branch, deterministic=not train)
            depth = nn.Dropout(
                self.stochastic_depth_rate,
                broadcast_dims=(1, 2),
                name=f"stochastic_depth{number}",
            )
            return depth(branch, deterministic=not train)

        attention = SelfAttention(
            self.num_heads,
            causal=self.causal,
            dropout_rate=self.attention_dropout_rate,
            kernel_init=self.kernel_init,
            output_init=self.output_init,
            dtype=self.dtype,
            name="attention",
        )
        x = x + drop(attention(norm(name="norm1")(x), train), 1)
        y = dense(4 * width, kernel_init=self.kernel_init, name="expand")(norm(name="norm2")(x))
        y = nn.gelu(y, approximate=self.approximate_gelu)
        y = dense(width, kernel_init=self.output_init, name="project")(y)
        return x + drop(y, 2)
