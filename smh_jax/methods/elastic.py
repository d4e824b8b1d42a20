"""One pair of pools that makes a model of every one of several sizes.

`U[:, :m] V[:m, :]` is a matrix of rank m: the first m of the M hash pairs are the variables of a
smaller model. Of sizes that are trained together they share the pools and the stored tensors.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from functools import cached_property

import jax
import jax.numpy as jnp

from smh_jax.manifest import Params
from smh_jax.methods.around import Around
from smh_jax.methods.base import Variables
from smh_jax.methods.smh import SMH


@dataclasses.dataclass(frozen=True)
class Elastic(Around):
    """SMH of the largest size around whose first hash pairs the smaller ones are.

    It makes the weights of one of its sizes (`at_size`), which is the largest unless another is
    asked for. The pools are those of `inner`, with `scales` of every size: `[sizes, scales]`.

    Attributes:
        inner: SMH of the largest size, less the variables that the other sizes' scales take.
        sizes: target sizes, rising; the last is `target_size`.
        index: of the size whose weights it makes; may be a traced int32 scalar, so that one
            compiled program serves all of them.
    """

    inner: SMH
    sizes: tuple[int, ...]
    index: int | jax.Array

    def __repr__(self) -> str:
        return f"Elastic({self.inner!r}, {self.sizes!r})"

    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        """Those of the largest; every size starts from the same scales."""
        return self._shared(self.inner.init(key, params))

    def fit(self, params: Params) -> Variables:
        """Those of the largest, with its scales for every size."""
        return self._shared(self.inner.fit(params))

    def at_size(self, index: int | jax.Array) -> "Elastic":
        """The method that makes the weights of the size at an index of `sizes`."""
        return dataclasses.replace(self, index=index)

    def changed(self, variables: Variables) -> Variables:
        """With this size's scales, and pools of which all further hash pairs are 0.

        What is left is multiplied by `factor`, in both pools.
        """
        largest = self.inner.num_hash_pairs
        pairs = jnp.asarray(self.num_hash_pairs)[self.index]
        kept = jnp.where(jnp.arange(largest) < pairs, factor(pairs, largest), 0.0)
        changed = {**variables, "pools": multiplied(variables["pools"], kept)}
        if "scales" in variables:
            changed["scales"] = variables["scales"][self.index]
        return changed

    def cut(self, index: int, variables: Variables) -> tuple[SMH, Variables]:
        """SMH of one size alone, and its variables: its hash pairs, multiplied as in `changed`."""
        method, changed = self.methods[index], self.at_size(index).changed(variables)
        pools = pairs_of(changed["pools"], 0, method.num_hash_pairs)
        return method, {**changed, "pools": pools}

    def index_of(self, size: float) -> int:
        """The index of a size, given as a number of variables or as a share of all weights.

        Raises:
            ValueError: for one that is not trained; the message names those that are.
        """
        target = target_of(size, self.manifest.num_weights)
        if target not in self.sizes:
            raise ValueError(
                f"size={size:g} is none of those that were trained: "
                f"{', '.join(map(str, self.sizes))}"
            )
        return self.sizes.index(target)

    @cached_property
    def methods(self) -> tuple[SMH, ...]:
        """SMH of each size alone."""
        smaller = (dataclasses.replace(self.inner, target_size=size) for size in self.sizes[:-1])
        return (*smaller, self.inner)

    @cached_property
    def num_hash_pairs(self) -> tuple[int, ...]:
        """Hash pairs of each size: the m of its first ones."""
        return tuple(method.num_hash_pairs for method in self.methods)

    def _shared(self, variables: Variables) -> Variables:
        if "scales" not in variables:
            return variables
        scales = variables["scales"]
        every = jnp.broadcast_to(scales, (len(self.sizes), *scales.shape))
        return {**variables, "scales": every}


def elastic(largest: SMH, sizes: Sequence[float]) -> Elastic:
    """The method of several sizes in place of the largest one alone.

    Args:
        largest: SMH whose `target_size` is also that of all sizes together.
        sizes: the smaller ones, as target sizes or, below 1, as shares of all weights.

    Raises:
        ValueError: for another method, or sizes that are impossible, too large or as good as
            equal; the message names them.
    """
    if not isinstance(largest, SMH):
        raise ValueError(
            f"elastic.sizes={tuple(sizes)} goes with method 'smh', not {largest.name!r}"
        )
    if largest.matrix == "rectangular":
        raise ValueError(
            f"matrix='rectangular' goes without elastic.sizes={tuple(sizes)}: all sizes have one "
            "matrix in common, a square one"
        )
    manifest, target_size = largest.manifest, largest.target_size
    targets = tuple(sorted(target_of(size, manifest.num_weights) for size in sizes))
    if targets[-1] >= target_size:
        raise ValueError(
            f"elastic.sizes={tuple(sizes)}: {targets[-1]} must be below "
            f"method.target_size={target_size}, which is trained in any case"
        )
    num_scales = len(targets) * sum(largest.scale_sizes)
    try:
        inner = dataclasses.replace(largest, matrix="square", target_size=target_size - num_scales)
        sizes_of = (*targets, target_size)
        method = Elastic(manifest, target_size, inner, sizes_of, len(targets))
        pairs = method.num_hash_pairs
    except ValueError as error:
        raise ValueError(f"elastic.sizes={tuple(sizes)}: {error}") from error
    for at, (fewer, more) in enumerate(itertools.pairwise(pairs)):
        if fewer >= more:
            raise ValueError(
                f"elastic.sizes={tuple(sizes)}: {sizes_of[at]} has {fewer} hash pairs and "
                f"{sizes_of[at + 1]} {more}: a hash pair is {inner.min_pool_size} variables, and "
                f"{num_scales} of the largest size are scales of the others"
            )
    return method


def factor(num_pairs: int | jax.Array, largest: int) -> jax.Array:
    """`(M / m)^(1/4)` of the first m of M hash pairs, by which both pools are multiplied.

    Entries of their product have the standard deviation of M pairs then (paper, section 3.3).
    """
    return (largest / jnp.asarray(num_pairs)) ** 0.25


def pairs_of(pools: Variables, first: int, end: int) -> Variables:
    """The hash pairs `first` to `end - 1` of pools `u` [..., n, M] and `v` [..., M, n]."""
    return {"u": pools["u"][..., first:end], "v": pools["v"][..., first:end, :]}


def joined(parts: Sequence[Variables]) -> Variables:
    """The pools whose hash pairs are those of the parts, one after the other."""
    return {
        "u": jnp.concatenate([pools["u"] for pools in parts], -1),
        "v": jnp.concatenate([pools["v"] for pools in parts], -2),
    }


def multiplied(pools: Variables, factors: jax.Array) -> Variables:
    """Pools `u` [..., n, M] and `v` [..., M, n] with a factor [M] for each hash pair, in both."""
    u, v = pools["u"], pools["v"]
    return {
        "u": u * factors.reshape((1,) * (u.ndim - 1) + (-1,)),
        "v": v * factors.reshape((1,) * (v.ndim - 2) + (-1, 1)),
    }


def target_of(size: float, num_weights: int) -> int:
    """The target size that a size stands for: itself, or below 1 that share of all weights.

    Raises:
        ValueError: for one that is not above 0, or above 1 and not whole.
    """
    if not size > 0 or (size >= 1 and size % 1):
        raise ValueError(
            f"size={size:g} must be a whole number of variables, or a share of all weights below 1"
        )
    return int(size) if size >= 1 else round(size * num_weights)
