"""Low-rank layers: each kernel, seen as a matrix, is a product of two thin ones."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from smh_jax.methods.base import Variables, check_choice
from smh_jax.methods.decomposition import Decomposition
from smh_jax.methods.tensor_network import Network


@dataclasses.dataclass(frozen=True)
class LowRank(Decomposition):
    """`A B` per layer, the form that trained rank pruning ends in (Xu et al., arXiv:1812.02402).

    Attributes:
        matrix: which matrix of a kernel [k, k, in, out] is of low rank. 'spatial' takes
            [k in, k out] (two convolutions of k x 1 and 1 x k; VH in the authors' code), 'channel'
            [k k in, out] (a k x k convolution before a 1 x 1; NC). Kernels without spatial axes
            have one matrix only.
        nuclear_norm: factor of the layers' summed nuclear norms in the training loss.
    """

    matrix: str = "spatial"
    nuclear_norm: float = 0.0

    name: ClassVar[str] = "low_rank"

    def __post_init__(self) -> None:
        check_choice("matrix", self.matrix, ("spatial", "channel"))
        norm = self.nuclear_norm
        if not 0 <= norm < math.inf:
            raise ValueError(f"nuclear_norm={norm} must be a finite factor of at least 0")
        if norm and self.scale_per != "tensor":
            raise ValueError(
                f"nuclear_norm={norm} is of tensors that have one scale: "
                f"scale_per={self.scale_per!r} must be 'tensor'"
            )
        super().__post_init__()

    def decompose(self, axes: str, sizes: Mapping[str, int]) -> Network:
        # A [*rows, r] and B [r, *columns].
        num_rows = min(1, len(axes)) if self.matrix == "spatial" else len(axes)
        return Network.of_rank_one(sizes, (f"{axes[:num_rows]}yR", f"R{axes[num_rows:]}z"))

    def penalty(self, variables: Variables) -> jax.Array:
        """`nuclear_norm` times the sum over layers of a bound on the matrix's nuclear norm.

        The nuclear norm of X is the smallest `(|A|^2 + |B|^2) / 2` over all factorisations X = A B
        (Srebro, Rennie and Jaakkola, Maximum-Margin Matrix Factorization, 2004, lemma 1): this
        smooth penalty of the factors trains the layer under its nuclear norm. A layer's matrix is
        A B times its scale; tensors without a decomposition count nothing.
        """
        total = jnp.float32(0)
        for index, tensor in enumerate(self.manifest.hashed):
            factors = variables["pools"][tensor.name]
            if self.nuclear_norm and len(factors) == 2:
                scale = variables["scales"][index] if self.scale == "learnable" else 1.0
                stddev = tensor.initial.stddev or 1.0
                squares = sum(jnp.sum(jnp.square(factor)) for factor in factors)
                total += 0.5 * jnp.abs(stddev * scale) * squares
        return self.nuclear_norm * total
