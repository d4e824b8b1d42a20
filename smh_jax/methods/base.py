"""The interface of every way of making weights from variables, and what all of them share.

A method is a frozen, hashable description. Its variables are a dict of up to three groups:

    pools   what the hashed weights are generated from; each method's own
    scales  [number of hashed tensors], one learnable multiplier per tensor
    stored  the tensors that are trained as they are, by name
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from smh_jax.manifest import Manifest, Params, Tensor
from smh_jax.methods import distributions

Variables = dict[str, Any]
GROUPS = ("pools", "scales", "stored")


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """One way of making all weights of a model from its variables.

    Attributes:
        manifest: what is to be made. A tensor that this method cannot generate is moved from the
            hashed to the stored ones when the method is built.
        target_size: upper bound on all trainable variables: pools, scales and stored tensors.
    """

    manifest: Manifest
    target_size: int | None

    name: ClassVar[str]

    @abc.abstractmethod
    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        """Draws the initial variables.

        Args:
            key: of the random draws; equal keys give equal variables.
            params: the base model's own initial params, from which the stored tensors are taken.
                Without, they are drawn from the manifest's description of them.
        """

    @abc.abstractmethod
    def materialize(self, variables: Variables) -> Params:
        """The complete params tree: structure, shapes and dtypes of the base model's `init`.

        Pure and differentiable; to be called inside `jit`.
        """

    def penalty(self, variables: Variables) -> jax.Array:
        """A scalar that the training loss adds; 0 for a method without a regulariser of its own."""
        del variables
        return jnp.float32(0)

    @cached_property
    def num_variables(self) -> int:
        """Elements of the variables, counted on the pytree itself."""
        variables = jax.eval_shape(self.init, jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(variables))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What was chosen: counts, and shapes of the pools."""
        variables = jax.eval_shape(self.init, jax.random.key(0))
        sizes = {
            group: sum(leaf.size for leaf in jax.tree.leaves(variables.get(group, {})))
            for group in GROUPS
        }
        return {
            "method": self.name,
            "target_size": self.target_size,
            "num_variables": self.num_variables,
            "num_weights": self.manifest.num_weights,
            "num_hashed": self.manifest.num_hashed,
            "num_pool_variables": sizes["pools"],
            "num_scales": sizes["scales"],
            "num_stored": sizes["stored"],
            "compression": self.manifest.num_weights / self.num_variables,
            "pool_shapes": {
                jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
                for path, leaf in jax.tree_util.tree_leaves_with_path(variables.get("pools", {}))
            },
        }


def init_stored(tensors: Sequence[Tensor], key: jax.Array) -> dict[str, jax.Array]:
    """Initial values of stored tensors, by name, drawn from the manifest's description.

    Raises:
        ValueError: for a tensor of which the description does not fix the values.
    """
    values = {}
    for index, tensor in enumerate(tensors):
        initial = tensor.initial
        if initial.distribution == "constant":
            value = jnp.full(tensor.shape, initial.mean, tensor.dtype)
        elif initial.distribution in distributions.NAMES:
            sample = distributions.sample(
                initial.distribution, jax.random.fold_in(key, index), tensor.shape
            )
            value = (initial.mean + initial.stddev * sample).astype(tensor.dtype)
        else:
            raise ValueError(
                f"the initial values of {tensor.name} are {initial.distribution}: "
                "pass the base model's params to init"
            )
        values[tensor.name] = value
    return values


@dataclasses.dataclass(frozen=True)
class PooledMethod(Method):
    """A method that generates the hashed weights from pools: unit variance first, then scaled.

    Attributes:
        scale: 'learnable' multiplies each tensor by a trained scalar (paper, section 3.4);
            'fixed' keeps the initial standard deviation.
        distribution: of the pools' initial values: 'normal', 'truncated_normal', 'uniform', or
            'match', which takes the one that most of the hashed weights have (paper, section 3.3:
            a bounded initializer is matched by a bounded one).
    """

    scale: str = "learnable"
    distribution: str = "match"

    def __post_init__(self) -> None:
        if self.scale not in ("learnable", "fixed"):
            raise ValueError(f"scale={self.scale!r} must be 'learnable' or 'fixed'")
        if self.distribution not in ("match", *distributions.NAMES):
            raise ValueError(
                f"distribution={self.distribution!r} must be 'match' or one of "
                f"{', '.join(distributions.NAMES)}"
            )
        if self.scale == "fixed":
            zero = [t.name for t in self.manifest.hashed if t.initial.stddev == 0]
            reason = "zero-initialised: a fixed scale would keep it at 0"
            object.__setattr__(self, "manifest", self.manifest.store(dict.fromkeys(zero, reason)))
        if not self.manifest.hashed:
            raise ValueError("nothing is left to hash: every chosen tensor has to be stored")
        self._check_budget()

    def _check_budget(self) -> None:
        manifest, target = self.manifest, self.target_size
        if target is None or target < 1:
            raise ValueError(f"target_size={target} must be a positive number of variables")
        if target >= manifest.num_weights:
            raise ValueError(
                f"target_size={target} is not smaller than the model's {manifest.num_weights} "
                "weights; train it with method 'dense'"
            )
        beside = manifest.num_stored + self.num_scales
        if target < beside + self.min_pool_size:
            raise ValueError(
                f"target_size={target} leaves {target - beside} variables for the pools beside "
                f"{manifest.num_stored} stored ones and {self.num_scales} scales; "
                f"the smallest possible target is {beside + self.min_pool_size}"
            )

    @property
    def num_scales(self) -> int:
        """Learnable scales: one per hashed tensor, or none."""
        return len(self.manifest.hashed) if self.scale == "learnable" else 0

    @property
    def pool_budget(self) -> int:
        """Variables left for the pools, in elements."""
        return self.target_size - self.manifest.num_stored - self.num_scales

    @cached_property
    def pool_distribution(self) -> str:
        """The distribution that 'match' stands for."""
        if self.distribution != "match":
            return self.distribution
        weights = dict.fromkeys(distributions.NAMES, 0)
        for tensor in self.manifest.hashed:
            if tensor.initial.distribution in weights:
                weights[tensor.initial.distribution] += tensor.size
        return max(weights, key=weights.__getitem__)

    @property
    @abc.abstractmethod
    def min_pool_size(self) -> int:
        """Elements of the smallest pools that this method can use."""

    @abc.abstractmethod
    def init_pools(self, key: jax.Array) -> Any:
        """Initial pools, a pytree, from which `generate` makes weights of unit variance."""

    @abc.abstractmethod
    def generate(self, pools: Any) -> Sequence[jax.Array]:
        """Unscaled weights: one array of each hashed tensor's shape, in order of creation."""

    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        """See `Method.init`."""
        pool_key, stored_key = jax.random.split(key)
        variables: Variables = {"pools": self.init_pools(pool_key)}
        if self.scale == "learnable":
            # A tensor that starts at 0 has its constant at 1 and its scale at 0, so that it starts
            # as in the base model and the scale still receives a gradient.
            variables["scales"] = jnp.array(
                [float(t.initial.stddev > 0) for t in self.manifest.hashed], jnp.float32
            )
        stored = self.manifest.stored
        if params is None:
            variables["stored"] = init_stored(stored, stored_key)
        else:
            leaves = self.manifest.leaves(params)
            variables["stored"] = {tensor.name: leaves[tensor.name] for tensor in stored}
        return variables

    def materialize(self, variables: Variables) -> Params:
        """See `Method.materialize`."""
        leaves: dict[str, jax.Array] = dict(variables["stored"])
        hashed = self.manifest.hashed
        scales: Sequence[Any] = [1.0] * len(hashed)
        if self.scale == "learnable":
            scales = jnp.unstack(variables["scales"])
        for tensor, weight, scale in zip(
            hashed, self.generate(variables["pools"]), scales, strict=True
        ):
            constant = tensor.initial.stddev or 1.0
            leaves[tensor.name] = (weight * (constant * scale)).astype(tensor.dtype)
        return self.manifest.tree(leaves)


def tile(flat: jax.Array, tensors: Sequence[Tensor]) -> list[jax.Array]:
    """Cuts a flat vector of at least all weights into tensors, row-major, in order.

    One split: its transpose is one concatenate, where a slice per tensor would add up one
    full-size array per tensor in the backward pass.
    """
    ends, end = [], 0
    for tensor in tensors:
        end += tensor.size
        ends.append(end)
    if end == flat.size:
        ends.pop()
    pieces: Mapping[int, jax.Array] = dict(enumerate(jnp.split(flat, ends)))
    return [pieces[i].reshape(tensor.shape) for i, tensor in enumerate(tensors)]
