"""Low-rank layers: each kernel, seen as a matrix, is a product of two thin ones."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from smh_jax.methods.base import check_choice
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
    """

    matrix: str = "spatial"

    name: ClassVar[str] = "low_rank"

    def __post_init__(self) -> None:
        check_choice("matrix", self.matrix, ("spatial", "channel"))
        super().__post_init__()

    def decompose(self, axes: str, sizes: Mapping[str, int]) -> Network:
        # A [*rows, r] and B [r, *columns].
        num_rows = min(1, len(axes)) if self.matrix == "spatial" else len(axes)
        return Network.of_rank_one(sizes, (f"{axes[:num_rows]}yR", f"R{axes[num_rows:]}z"))
