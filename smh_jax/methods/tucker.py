"""Tucker-2 layers: a small convolution between two changes of channels."""

import dataclasses
import math
import string
from typing import ClassVar

from smh_jax.methods.decomposition import Decomposition
from smh_jax.methods.tensor_network import Network, split_axes


@dataclasses.dataclass(frozen=True)
class Tucker(Decomposition):
    """Kernel [k, k, in, out] from U [in, p], core [k, k, p, q] and V [q, out].

    The decomposition along the two channel axes of Kim et al. 2016 (arXiv:1511.06530, section 3.1).
    A kernel without spatial extent is U V, the core being absorbed; one with a single input or
    output channel (a depthwise convolution) is the core times the other channels' factor.
    """

    name: ClassVar[str] = "tucker"

    def decompose(self, shape: tuple[int, ...]) -> Network | None:
        """See `Decomposition.decompose`; the factors are U, core and V."""
        spatial, inputs, outputs = split_axes(shape)
        axes = string.ascii_lowercase[: len(spatial)]
        sizes = {**dict(zip(axes, spatial, strict=True)), "y": inputs, "z": outputs}
        if math.prod(spatial) == 1:
            factors = (f"{axes}yP", "Pz")
        elif inputs == 1:
            factors = (f"{axes}yQ", "Qz")
        elif outputs == 1:
            factors = ("yP", f"{axes}Pz")
        else:
            factors = ("yP", f"{axes}PQ", "Qz")
        return Network.of_rank_one(sizes, factors)
