"""Tensor-train layers: a chain of cores, each with one factor of the inputs and of the outputs."""

import dataclasses
import math
import string
from itertools import zip_longest
from typing import ClassVar

from smh_jax.methods.decomposition import Decomposition
from smh_jax.methods.tensor_network import Network, balanced_factors, split_axes


@dataclasses.dataclass(frozen=True)
class TensorTrain(Decomposition):
    """Kernel [k, k, in, out] as a tensor train whose first core has the k k positions.

    Core j of the others has the pair (in_j, out_j) of factors of the channels (Garipov et al. 2016,
    arXiv:1611.03214; without spatial axes, the TT-layer of Novikov et al. 2015, arXiv:1509.06569).
    """

    name: ClassVar[str] = "tensor_train"

    def decompose(self, shape: tuple[int, ...]) -> Network | None:
        """See `Decomposition.decompose`; core j is [r_j, in_j, out_j, r_j+1], less the ends."""
        spatial, inputs, outputs = split_axes(shape)
        # The largest factor of one with the smallest of the other: cores of like sizes.
        pairs = list(
            zip_longest(
                balanced_factors(inputs),
                reversed(balanced_factors(outputs)),
            )
        )
        names = iter(string.ascii_lowercase)
        modes: list[dict[str, int]] = []
        if math.prod(spatial) > 1:
            modes.append({next(names): math.prod(spatial)})
        input_modes = [{next(names): n} if n else {} for n, _ in pairs]
        output_modes = [{next(names): n} if n else {} for _, n in pairs]
        sizes = {i: n for mode in (*modes, *input_modes, *output_modes) for i, n in mode.items()}
        cores = ["".join(mode) for mode in modes]
        cores += ["".join((*i, *o)) for i, o in zip(input_modes, output_modes, strict=True)]
        if len(cores) < 2:
            return None
        bonds = ["", *string.ascii_uppercase[: len(cores) - 1], ""]
        factors = (f"{bonds[j]}{core}{bonds[j + 1]}" for j, core in enumerate(cores))
        return Network.of_rank_one(sizes, tuple(factors))
