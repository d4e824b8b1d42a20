"""Tensor-ring layers: a closed chain of cores over factorized channels."""

import dataclasses
import math
import string
from collections.abc import Mapping
from typing import ClassVar

from smh_jax.methods.decomposition import Decomposition
from smh_jax.methods.tensor_network import Network, balanced_factors


@dataclasses.dataclass(frozen=True)
class TensorRing(Decomposition):
    """Kernel [k, k, in, out] as a ring of cores: the inputs' factors, k k, the outputs' factors.

    As in Tensor Ring Nets (Wang et al. 2018, arXiv:1802.09052).
    """

    name: ClassVar[str] = "tensor_ring"

    def decompose(self, axes: str, sizes: Mapping[str, int]) -> Network | None:
        inputs, outputs = balanced_factors(sizes["y"]), balanced_factors(sizes["z"])
        num_positions = math.prod(sizes[axis] for axis in axes)
        positions = (num_positions,) if num_positions > 1 else ()
        modes = inputs + positions + outputs
        if len(modes) < 2:
            return None
        cores, bonds = string.ascii_lowercase[: len(modes)], string.ascii_uppercase[: len(modes)]
        # Core j is [r_j, n_j, r_j+1], and the last bond is r_0.
        factors = tuple(map("".join, zip(bonds, cores, bonds[1:] + bonds[0], strict=True)))
        # The output keeps the kernel's row-major order: positions, inputs, outputs.
        first, last = len(inputs), len(inputs + positions)
        order = cores[first:last] + cores[:first] + cores[last:]
        return Network.of_rank_one({i: modes[cores.index(i)] for i in order}, factors)
