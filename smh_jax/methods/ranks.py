"""The rule that chooses the ranks of all decompositions of a model under one budget."""

import dataclasses
import heapq
import math
from collections.abc import Iterator, Sequence

from smh_jax.methods.tensor_network import Network


def choose(networks: Sequence[Network], budget: int) -> list[Network]:
    """Ranks such that a tensor's variables grow with the root of its size, as nearly as they allow.

    For matrices of one aspect ratio this is one rank for all of them: r n + r n = 2 r sqrt(n n).
    (A fixed share of its size would leave a small tensor, such as the classifier's, at rank 1.)

    From rank 1 everywhere, the tensor with the fewest variables after its next step, in relation to
    that root, takes the step, until no step of any tensor fits what is left. A step raises the
    lowest rank of a tensor by one, so that its ranks stay equal as long as that is of use; where
    this one does not fit, the next lowest. A tensor whose factors would hold as many variables as
    it has elements becomes its own only factor.

    The networks are given at rank 1, or undivided where that is `cheaper`; their factors have at
    most `budget` variables, and those of the networks returned have no more.
    """
    chosen = list(networks)
    left = budget - sum(network.num_variables for network in chosen)
    # What decides, and the position for where that is equal.
    queue: list[tuple[float, int]] = []

    def push(position: int) -> None:
        step = next(_steps(chosen[position]), None)
        if step is not None:
            priority = step.num_variables / math.sqrt(step.num_elements)
            heapq.heappush(queue, (priority, position))

    for position in range(len(chosen)):
        push(position)
    while queue:
        _, position = heapq.heappop(queue)
        affordable = chosen[position].num_variables + left
        fitting = (s for s in _steps(chosen[position]) if s.num_variables <= affordable)
        step = next(fitting, None)
        # A tensor of which no step fits is done: less and less is left.
        if step is not None:
            left = affordable - step.num_variables
            chosen[position] = step
            push(position)
    return chosen


def _steps(network: Network) -> Iterator[Network]:
    """The networks one step above, lowest rank first."""
    for bond in sorted(network.bonds, key=network.sizes.__getitem__):
        if network.sizes[bond] < network.rank_limit(bond):
            sizes = {**network.sizes, bond: network.sizes[bond] + 1}
            yield cheaper(dataclasses.replace(network, sizes=sizes))


def cheaper(network: Network) -> Network:
    """The network, or its tensor undivided where that costs no more."""
    if network.num_variables < network.num_elements:
        return network
    return Network.whole(tuple(network.sizes[i] for i in network.output))
