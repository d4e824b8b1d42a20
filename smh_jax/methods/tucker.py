"""Tucker-2 layers: a small convolution between two changes of channels."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from smh_jax.methods.decomposition import Decomposition
from smh_jax.methods.tensor_network import Network


@dataclasses.dataclass(frozen=True)
class Tucker(Decomposition):
    """Kernel [k, k, in, out] from U [in, p], core [k, k, p, q] and V [q, out].

    The decomposition along the two channel axes of Kim et al. 2016 (arXiv:1511.06530, section 3.1).
    A kernel without spatial extent is U V, the core being absorbed; one with a single input or
    output channel (a depthwise convolution) is the core times the other channels' factor.
    """

    name: ClassVar[str] = "tucker"

    def decompose(self, axes: str, sizes: Mapping[str, int]) -> Network:
        if all(sizes[axis] == 1 for axis in axes):
            factors = (f"{axes}yP", "Pz")
        elif sizes["y"] == 1:
            factors = (f"{axes}yQ", "Qz")
        elif sizes["z"] == 1:
            factors = ("yP", f"{axes}Pz")
        else:
            factors = ("yP", f"{axes}PQ", "Qz")
        return Network.of_rank_one(sizes, factors)
