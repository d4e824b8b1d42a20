"""Several networks in one pair of pools.

Plain SMH of a joint manifest (`Manifest.joined`) makes the weights of all of them, one network
after the other in one matrix. Here is what makes one of them alone from the same pools, and what
adds further networks to pools that stay as they are.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from smh_jax.config.names import check_known
from smh_jax.manifest import Manifest, Params
from smh_jax.methods.around import Around
from smh_jax.methods.base import Method, Variables
from smh_jax.methods.elastic import joined, pairs_of
from smh_jax.methods.smh import SMH
from smh_jax.methods.window import Window


@dataclasses.dataclass(frozen=True)
class Added(Around):
    """Networks that are added to pools, of which they train further hash pairs alone, if any.

    Its variables are those of `inner`, whose pools are cut in two: the hash pairs that were there
    are in a group of their own, `frozen`, which gets no gradient.

    Attributes:
        inner: of all hash pairs.
        num_frozen: how many of them, the first ones, stay as they are.
    """

    inner: Window
    num_frozen: int

    # Their weights cannot be chosen freely.
    fit = Method.fit

    def __repr__(self) -> str:
        return f"Added({self.inner!r}, {self.num_variables:,} of them trained)"

    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        """The frozen pools are drawn, too: `starting_from` has those that were there."""
        variables = self.inner.init(key, params)
        pools, last = variables.pop("pools"), self.inner.num_hash_pairs
        if self.num_frozen < last:
            variables["pools"] = pairs_of(pools, self.num_frozen, last)
        return {**variables, "frozen": pairs_of(pools, 0, self.num_frozen)}

    def starting_from(self, pools: Variables, variables: Variables) -> Variables:
        """Initial variables with these pools frozen.

        Scales start where the weights have the deviations of their initializers: trained pools do
        not make entries of unit variance any more.
        """
        variables = {**variables, "frozen": pools}
        if "scales" in variables and self.inner.modifier == "none":
            entries = self.inner.generate(self.changed(variables)["pools"])
            deviation = jnp.std(jnp.concatenate([jnp.ravel(weight) for weight in entries]))
            variables["scales"] = variables["scales"] / deviation
        return variables

    def changed(self, variables: Variables) -> Variables:
        """With the frozen hash pairs before the trained ones."""
        frozen = jax.lax.stop_gradient(variables["frozen"])
        pools = joined([frozen, variables["pools"]]) if "pools" in variables else frozen
        kept = {group: value for group, value in variables.items() if group != "frozen"}
        return {**kept, "pools": pools}

    def exported(self, variables: Variables) -> Variables:
        return self.changed(variables)

    def map_pools(self, function: Callable[[jax.Array], Any], variables: Variables) -> Variables:
        """Of those that are trained."""
        return super().map_pools(function, variables) if "pools" in variables else variables


def added(source: SMH, manifest: Manifest, target_size: int | None, grown: bool) -> Added:
    """The method of networks that are added to the pools of others.

    Their weights begin behind the last one of the others, and continue at the matrix's first entry
    where it ends.

    Args:
        source: of the networks that are there.
        manifest: joined, of the new ones.
        target_size: upper bound on what is trained: new hash pairs, scales and stored tensors.
        grown: whether there are new hash pairs: as many as fit the target.

    Raises:
        ValueError: for a method that cannot be shared, or a target that is too small.
    """
    check_shareable(source)
    rows, columns = source.matrix_shape
    first = (source.first + source.manifest.num_hashed) % (rows * columns)
    inner = _window(source, manifest, first)
    others = inner.target_size - inner.pool_budget
    smallest = others + grown * inner.min_pool_size
    if target_size is None or target_size < smallest:
        raise ValueError(
            f"target_size={target_size} must be at least {smallest}: {others} scales and stored "
            f"tensors are trained{f' and hash pairs of {inner.min_pool_size}' if grown else ''}"
        )
    pairs = (target_size - others) // inner.min_pool_size if grown else 0
    size = inner.target_size + pairs * inner.min_pool_size
    inner = dataclasses.replace(inner, target_size=size)
    return Added(inner.manifest, target_size, inner, source.num_hash_pairs)


def names(method: Method) -> tuple[str, ...]:
    """The names of the networks whose weights a method of a joint manifest makes."""
    return tuple(dict.fromkeys(tensor.path[0] for tensor in method.manifest.tensors))


def member(method: SMH, name: str) -> Window:
    """The method that makes the weights of one of several networks, from all of their pools.

    Args:
        method: of a joint manifest.
        name: of the network.

    Raises:
        ValueError: for a method that cannot be shared, an unknown name, or a network of which
            nothing is hashed.
    """
    check_shareable(method)
    check_known(f"task={name!r}", name, names(method))
    hashed = [tensor for tensor in method.manifest.hashed if tensor.path[0] == name]
    if not hashed:
        raise ValueError(f"nothing of {name!r} is hashed: it would share nothing")
    first = method.first + method.manifest.offsets[hashed[0].name]
    rows, columns = method.matrix_shape
    return _window(method, method.manifest.part(name), first % (rows * columns))


def of_member(method: SMH, name: str, variables: Variables) -> Variables:
    """Of the variables of several networks those of one; the pools are the same arrays."""
    prefix, hashed = f"{name}/", method.manifest.hashed
    stored = {
        tensor.removeprefix(prefix): value
        for tensor, value in variables["stored"].items()
        if tensor.startswith(prefix)
    }
    own = {**variables, "stored": stored}
    if "scales" in variables:
        sizes = zip(hashed, method.scale_sizes, strict=True)
        owners = [tensor.path[0] for tensor, size in sizes for _ in range(size)]
        first = owners.index(name)
        own["scales"] = variables["scales"][first : first + owners.count(name)]
    return own


def alone(method: Window, variables: Variables) -> tuple[Window, Variables]:
    """The same network, from no more rows of U than its weights lie in."""
    rows, columns = method.matrix_shape
    begin, end = method.first // columns, -(-(method.first + method.manifest.num_hashed) // columns)
    if end > rows:
        return method, variables
    smaller = dataclasses.replace(
        method,
        target_size=method.target_size - method.num_hash_pairs * (rows - (end - begin)),
        rows=end - begin,
        first=method.first - begin * columns,
    )
    pools = variables["pools"]
    return smaller, {**variables, "pools": {**pools, "u": pools["u"][begin:end]}}


def check_shareable(method: Method) -> None:
    """Raises ValueError unless several networks can share the method's pools."""
    if not isinstance(method, SMH):
        raise ValueError(f"networks share the pools of method 'smh', not {method.name!r}")
    for option, wanted in {"layout": "matmul", "blocks": 1, "index": "basic"}.items():
        if getattr(method, option) != wanted:
            raise ValueError(
                f"{option}={getattr(method, option)!r} must be {wanted!r} where pools are shared"
            )


def _window(method: SMH, manifest: Manifest, first: int) -> Window:
    """Of other weights from all hash pairs of a method."""
    rows, columns = method.matrix_shape
    size = method.num_hash_pairs * (rows + columns)
    kept = ("scale", "scale_per", "distribution", "modifier")
    window = Window(
        manifest,
        # More than enough for what is not in the pools.
        size + 2 * manifest.num_weights,
        rows=rows,
        columns=columns,
        first=first,
        **{option: getattr(method, option) for option in kept},
    )
    others = window.target_size - window.pool_budget
    return dataclasses.replace(window, target_size=size + others)
