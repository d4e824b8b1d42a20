"""Tensor-ring layers: a closed chain of cores over factorised channels."""

import dataclasses
import math
import string
from typing import ClassVar

from smh_jax.methods.decomposition import Decomposition
from smh_jax.methods.tensor_network import Network, balanced_factors, split_axes


@dataclasses.dataclass(frozen=True)
class TensorRing(Decomposition):
    """Kernel [k, k, in, out] as a ring of cores: the inputs' factors, k k, the outputs' factors.

    As in Tensor Ring Nets (Wang et al. 2018, arXiv:1802.09052).
    """

    name: ClassVar[str] = "tensor_ring"

    def decompose(self, shape: tuple[int, ...]) -> Network | None:
        """See `Decomposition.decompose`; core j is [r_j, n_j, r_j+1], and the last bond is r_0."""
        spatial, inputs, outputs = split_axes(shape)
        modes_in = balanced_factors(inputs)
        modes_out = balanced_factors(outputs)
        positions = (math.prod(spatial),) if math.prod(spatial) > 1 else ()
        cores = string.ascii_lowercase[: len(modes_in + positions + modes_out)]
        if len(cores) < 2:
            return None
        bonds = string.ascii_uppercase[: len(cores)]
        factors = tuple(
            f"{bond}{core}{following}"
            for bond, core, following in zip(bonds, cores, bonds[1:] + bonds[0], strict=True)
        )
        sizes = dict(zip(cores, modes_in + positions + modes_out, strict=True))
        # The output keeps the kernel's row-major order: positions, inputs, outputs.
        order = cores[len(modes_in) : len(modes_in + positions)] + cores[: len(modes_in)]
        order += cores[len(order) :]
        return Network.of_rank_one({i: sizes[i] for i in order}, factors)
