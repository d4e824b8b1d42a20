"""Tensor-train layers: a chain of cores, each with one factor of the inputs and of the outputs."""

import dataclasses
import math
import string
from collections.abc import Mapping
from itertools import zip_longest
from typing import ClassVar

from smh_jax.methods.decomposition import Decomposition
from smh_jax.methods.tensor_network import Network, balanced_factors


@dataclasses.dataclass(frozen=True)
class TensorTrain(Decomposition):
    """Kernel [k, k, in, out] as a tensor train whose first core has the k k positions.

    Core j of the others has the pair (in_j, out_j) of factors of the channels (Garipov et al. 2016,
    arXiv:1611.03214; without spatial axes, the TT-layer of Novikov et al. 2015, arXiv:1509.06569).
    """

    name: ClassVar[str] = "tensor_train"

    def decompose(self, axes: str, sizes: Mapping[str, int]) -> Network | None:
        num_positions = math.prod(sizes[axis] for axis in axes)
        positions = (num_positions,) if num_positions > 1 else ()
        inputs, outputs = balanced_factors(sizes["y"]), balanced_factors(sizes["z"])[::-1]
        modes = positions + inputs + outputs
        names = string.ascii_lowercase[: len(modes)]
        first, last = len(positions), len(positions + inputs)
        # The largest factor of one with the smallest of the other: cores of like sizes.
        pairs = zip_longest(names[first:last], names[last:], fillvalue="")
        cores = [*names[:first], *map("".join, pairs)]
        if len(cores) < 2:
            return None
        # Core j is [r_j, in_j, out_j, r_j+1], less the ends.
        bonds = ["", *string.ascii_uppercase[: len(cores) - 1], ""]
        factors = map("".join, zip(bonds[:-1], cores, bonds[1:], strict=True))
        return Network.of_rank_one(dict(zip(names, modes, strict=True)), tuple(factors))
