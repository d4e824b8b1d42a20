"""The interface of every way of making weights from variables, and what all of them share.

A method is a frozen, hashable description. Its variables are a dict of up to three groups:

    pools   what the hashed weights are generated from; each method's own
    scales  [number of scales], one learnable multiplier per hashed tensor (or output channel)
    stored  the tensors that are trained as they are, by name
"""

import abc
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from smh_jax.config.names import check_choice, check_known
from smh_jax.config.randomness import purpose_key
from smh_jax.manifest import Manifest, Params, Tensor, table
from smh_jax.methods import distributions, modifiers, spread

Variables = dict[str, Any]
GROUPS = ("pools", "scales", "stored")
# The arguments `first`, `last` and `zero` of `Method.materialize_part`.
Part = tuple[int, int, jax.Array | int]

_METHODS: dict[str, type["Method"]] = {}


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """One way of making all weights of a model from its variables.

    A subclass is known by its `name` from the time it is defined; see `of_name`.

    Attributes:
        manifest: describes the weights. A tensor that this method cannot generate is moved from the
            hashed to the stored ones when the method is built.
        target_size: upper bound on all trainable variables: pools, scales and stored tensors.
    """

    manifest: Manifest
    target_size: int | None

    name: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # A dataclass would show its whole manifest.
        if "__repr__" not in vars(cls):
            cls.__repr__ = Method.__repr__
        if isinstance(vars(cls).get("name"), str):
            _METHODS[cls.name] = cls

    @abc.abstractmethod
    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        """Draws the initial variables; equal keys give equal ones.

        The stored tensors are taken from the base model's own initial params; without, they are
        drawn from the manifest's description of them.
        """

    @abc.abstractmethod
    def materialize(self, variables: Variables) -> Params:
        """The complete params tree: structure, shapes and dtypes of the base model's `init`.

        Pure and differentiable; to be called inside `jit`.
        """

    def fit(self, params: Params) -> Variables:
        """The variables whose weights come closest to given params, such as a trained model's.

        Runs on the host. Tensors that are stored are copied.

        Raises:
            ValueError: if the tree is of another model, or for a method that cannot be fitted.
        """
        raise ValueError(f"method {self.name} cannot be fitted to given weights; smh and dense can")

    @property
    def can_fit(self) -> bool:
        """Whether it has a `fit` of its own."""
        return type(self).fit is not Method.fit

    def materialize_part(
        self, variables: Variables, first: int, last: int, zero: jax.Array
    ) -> dict[str, jax.Array]:
        """The hashed tensors `first` to `last - 1` of `materialize`, by name.

        They depend on `zero`, an int32 scalar that is 0, which the compiler does not know: so they
        are not generated before it is there.
        """
        leaves = self.manifest.leaves(self.materialize(tie(variables, zero)))
        return {tensor.name: leaves[tensor.name] for tensor in self.manifest.hashed[first:last]}

    def placed(self, variables: Variables) -> Variables:
        """The variables as every layer's weights are made of them; see `smh_jax.methods.spread`."""
        return variables

    def squared_norm(self, variables: Variables, params: Params, names: Sequence[str]) -> jax.Array:
        """The sum of all squares of the named tensors of what `materialize` gave.

        Its gradient by variables and params together moves no scale: a scale's would add up over
        all weights of its tensor, and shrink them many times faster than stored ones.

        Args:
            variables: of this method.
            params: what it made of them.
            names: of tensors.
        """
        leaves = self.held(variables, self.manifest.leaves(params))
        return squared_norm([leaves[name] for name in names])

    def held(self, variables: Variables, leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The same tensors by name, as if their scales were constants."""
        return leaves

    def map_pools(self, function: Callable[[jax.Array], Any], variables: Variables) -> Variables:
        """The variables with a function of each pool: of each array whose precision matters."""
        return {**variables, "pools": jax.tree.map(function, variables["pools"])}

    def pools(self, variables: Variables) -> list[jax.Array]:
        """The arrays that `map_pools` changes."""
        found: list[jax.Array] = []
        self.map_pools(found.append, variables)
        return found

    def at(self, progress: jax.Array | float) -> "Method":
        """The method as it trains after a share of all steps: itself, unless it changes with them.

        The share is a scalar, 0 in the first step. Evaluation and export use the method as it is.
        """
        return self

    def penalty(self, variables: Variables) -> jax.Array:
        """A scalar that the training loss adds; 0 for a method without a regularizer of its own."""
        return jnp.float32(0)

    def measures(self, variables: Variables) -> dict[str, jax.Array]:
        """What a run says of its variables when it is evaluated: scalars by name."""
        return {}

    def exported(self, variables: Variables) -> Variables:
        """The variables as a file has them before their pools are rounded for it."""
        return variables

    @cached_property
    def abstract_variables(self) -> Variables:
        """Shapes and dtypes of the variables."""
        params = self.manifest.tree(
            {t.name: jax.ShapeDtypeStruct(t.shape, t.dtype) for t in self.manifest.tensors}
        )
        return jax.eval_shape(self.init, jax.random.key(0), params)

    @cached_property
    def num_variables(self) -> int:
        """Elements of the variables that are trained, counted on the pytree itself."""
        return count([self.abstract_variables.get(group, {}) for group in GROUPS])

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What was chosen: counts, and shapes of the pools."""
        pools, scales, stored = (self.abstract_variables.get(group, {}) for group in GROUPS)
        return {
            "method": self.name,
            "target_size": self.target_size,
            "num_variables": self.num_variables,
            "num_weights": self.manifest.num_weights,
            "num_hashed": self.manifest.num_hashed,
            "num_pool_variables": count(pools),
            "num_scales": count(scales),
            "num_stored": count(stored),
            "compression": self.manifest.num_weights / self.num_variables,
            "pool_shapes": {
                jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
                for path, leaf in jax.tree_util.tree_leaves_with_path(pools)
            },
        }

    def __repr__(self) -> str:
        options = {
            name: getattr(self, name)
            for name, default in default_options(self.name).items()
            if getattr(self, name) != default
        }
        changed = "".join(f", {name}={value!r}" for name, value in options.items())
        sizes = f"{self.num_variables:,} variables for {self.manifest.num_weights:,} weights"
        return f"{type(self).__name__}({sizes}{changed})"

    def describe(self, *facts: str, largest: int | None = None) -> str:
        """The facts given, the counts of `summary` and a table of the tensors, as text.

        Args:
            *facts: lines before the counts.
            largest: how many tensors are in the table; None for all.
        """
        lines = [*facts]
        for name, value in self.summary.items():
            if isinstance(value, float):
                value = f"{value:.2f}"
            elif isinstance(value, int):
                value = f"{value:,}"
            lines.append(f"{name.replace('_', ' ')}: {value}")
        return "\n".join([*lines, "", table(self.manifest, largest)])


def names() -> tuple[str, ...]:
    """The names of all methods, in order of definition."""
    return tuple(_METHODS)


def of_name(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        ValueError: for an unknown name; the near ones are listed.
    """
    check_known(f"method name={name!r}", name, names())
    return _METHODS[name]


def default_options(name: str) -> dict[str, Any]:
    """The named method's options with their default values."""
    return {
        field.name: field.default
        for field in dataclasses.fields(of_name(name))
        if field.name not in ("manifest", "target_size")
    }


def count(tree: Any) -> int:
    """Elements of all leaves of a pytree."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def squared_norm(arrays: Sequence[jax.Array]) -> jax.Array:
    """The sum of the squares of all elements of some arrays."""
    return sum((jnp.sum(jnp.square(array)) for array in arrays), jnp.float32(0))


def tie(tree: Any, zero: jax.Array) -> Any:
    """The same values, which now depend on an int32 scalar that is 0."""
    return jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype), tree)


def init_stored(tensors: Sequence[Tensor], key: jax.Array) -> dict[str, jax.Array]:
    """Initial values of stored tensors, by name, drawn from the manifest's description.

    Raises:
        ValueError: for a tensor of which the description does not fix the values.
    """
    values = {}
    for tensor in tensors:
        name, initial = tensor.name, tensor.initial
        if initial.distribution == "constant":
            values[name] = jnp.full(tensor.shape, initial.mean, tensor.dtype)
        elif initial.distribution in distributions.NAMES:
            tensor_key = purpose_key(key, f"stored {name}")
            sample = distributions.sample(initial.distribution, tensor_key, tensor.shape)
            values[name] = (initial.mean + initial.stddev * sample).astype(tensor.dtype)
        else:
            raise ValueError(
                f"the initial values of {name} are {initial.distribution}: "
                "pass the base model's params to init"
            )
    return values


@dataclasses.dataclass(frozen=True)
class PooledMethod(Method):
    """A method that generates the hashed weights from pools: unit variance first, then scaled.

    Attributes:
        scale: 'learnable' multiplies each tensor by a trained scalar (paper, section 3.4); 'fixed'
            keeps its constant.
        scale_per: 'tensor', or 'channel': one scale for each index of the last axis.
        distribution: of the pools' initial values: 'normal', 'truncated_normal', 'uniform', or
            'match', which takes the one that most of the hashed weights have (paper, section 3.3:
            a bounded initializer is matched by a bounded one).
        modifier: of the generated tensors before they are scaled: 'none', 'relu', or 'sign', which
            makes binary weights with a straight-through gradient.
    """

    scale: str = "learnable"
    scale_per: str = "tensor"
    distribution: str = "match"
    modifier: str = "none"

    def __post_init__(self) -> None:
        check_choice("scale", self.scale, ("learnable", "fixed"))
        check_choice("scale_per", self.scale_per, ("tensor", "channel"))
        check_choice("distribution", self.distribution, ("match", *distributions.NAMES))
        check_choice("modifier", self.modifier, tuple(modifiers.BY_NAME))
        if self.scale == "fixed":
            zero = [t.name for t in self.manifest.hashed if t.initial.stddev == 0]
            reason = "zero-initialised: a fixed scale would keep it at 0"
            object.__setattr__(self, "manifest", self.manifest.store(dict.fromkeys(zero, reason)))
        if not self.manifest.hashed:
            reasons = "; ".join(f"{t.name}: {t.reason}" for t in self.manifest.stored[:3])
            raise ValueError(
                f"nothing is left to hash: every chosen tensor has to be stored ({reasons})"
            )
        manifest, target = self.manifest, self.target_size
        if target is None or target < 1:
            raise ValueError(f"target_size={target} must be a positive number of variables")
        smallest = target - self.pool_budget + self.min_pool_size
        if target < smallest:
            raise ValueError(
                f"target_size={target} leaves {self.pool_budget} variables for the pools "
                f"besides {manifest.num_stored} stored ones and {sum(self.scale_sizes)} scales; "
                f"the smallest possible target is {smallest}"
            )

    @cached_property
    def scale_sizes(self) -> tuple[int, ...]:
        """Number of learnable scales of each hashed tensor."""
        if self.scale == "fixed":
            return ()
        shapes = [tensor.shape for tensor in self.manifest.hashed]
        per_channel = self.scale_per == "channel"
        return tuple(shape[-1] if per_channel and len(shape) >= 2 else 1 for shape in shapes)

    @property
    def pool_budget(self) -> int:
        """Variables left for the pools, in elements."""
        return self.target_size - self.manifest.num_stored - sum(self.scale_sizes)

    @cached_property
    def pool_distribution(self) -> str:
        """The distribution that 'match' stands for."""
        if self.distribution != "match":
            return self.distribution
        weights: Counter[str] = Counter()
        for tensor in self.manifest.hashed:
            weights[tensor.initial.distribution] += tensor.size
        return max(distributions.NAMES, key=weights.__getitem__)

    @property
    @abc.abstractmethod
    def min_pool_size(self) -> int:
        """Elements of the smallest pools that this method can use."""

    @abc.abstractmethod
    def init_pools(self, key: jax.Array) -> Any:
        """Initial pools, a pytree, from which `generate` makes weights of unit variance."""

    @abc.abstractmethod
    def generate(self, pools: Any, part: Part | None = None) -> list[jax.Array]:
        """Unscaled weights: one array of each hashed tensor's shape, in order of creation.

        Those of a part are made from no more of the pools than needed.
        """

    def placed(self, variables: Variables) -> Variables:
        return self.map_pools(spread.whole, variables)

    def init(self, key: jax.Array, params: Params | None = None) -> Variables:
        variables: Variables = {"pools": self.init_pools(purpose_key(key, "pools"))}
        if self.scale == "learnable":
            # A tensor that starts at 0 has its constant at 1 and its scale at 0, so that it starts
            # as in the base model and the scale still receives a gradient.
            starts = [float(tensor.initial.stddev > 0) for tensor in self.manifest.hashed]
            variables["scales"] = jnp.asarray(np.repeat(starts, self.scale_sizes), jnp.float32)
        stored = self.manifest.stored
        leaves = init_stored(stored, key) if params is None else self.manifest.leaves(params)
        variables["stored"] = {tensor.name: leaves[tensor.name] for tensor in stored}
        return variables

    def materialize(self, variables: Variables) -> Params:
        return self.manifest.tree({**variables["stored"], **self._generated(variables)})

    def materialize_part(
        self, variables: Variables, first: int, last: int, zero: jax.Array
    ) -> dict[str, jax.Array]:
        return self._generated(variables, (first, last, zero))

    def _generated(self, variables: Variables, part: Part | None = None) -> dict[str, jax.Array]:
        """The hashed tensors, all or those of a part, by name."""
        weights, leaves = self.generate(variables["pools"], part), {}
        first, last, _ = part or (0, None, None)
        tensors = self.manifest.hashed[first:last]
        scales: Sequence[Any] = [1.0] * len(tensors)
        if self.scale == "learnable":
            scales = self._cut_scales(variables["scales"], first, last)
        modify = modifiers.BY_NAME[self.modifier]
        for tensor, weight, scale in zip(tensors, weights, scales, strict=True):
            constant = tensor.initial.stddev or 1.0
            leaves[tensor.name] = (modify(weight) * (constant * scale)).astype(tensor.dtype)
        return leaves

    def held(self, variables: Variables, leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
        if self.scale == "fixed":
            return leaves
        scales = variables["scales"]
        # 1, whose gradient by the scale is the opposite of the weights'. Where a scale is 0, so are
        # its weights, and what they give it.
        divisors = jnp.where(scales == 0, 1.0, scales)
        ratios = jnp.where(scales == 0, 1.0, jax.lax.stop_gradient(scales) / divisors)
        tensors = zip(self.manifest.hashed, self._cut_scales(ratios), strict=True)
        return leaves | {tensor.name: leaves[tensor.name] * ratio for tensor, ratio in tensors}

    def _cut_scales(
        self, scales: jax.Array, first: int = 0, last: int | None = None
    ) -> list[jax.Array]:
        """The scales of the hashed tensors, all or some, as they multiply them."""
        begin, sizes = sum(self.scale_sizes[:first]), self.scale_sizes[first:last]
        pieces = cut(scales[begin : begin + sum(sizes)], sizes)
        shapes = [tensor.shape for tensor in self.manifest.hashed[first:last]]
        return [
            piece.reshape((1,) * (len(shape) - 1) + (-1,)[: len(shape)])
            for piece, shape in zip(pieces, shapes, strict=True)
        ]


def check_at_least(field: str, value: int, bound: int) -> None:
    """Raises ValueError unless a whole number is at least `bound`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < bound:
        raise ValueError(f"{field}={value!r} must be a whole number of at least {bound}")


def cut(flat: jax.Array, sizes: Sequence[int]) -> list[jax.Array]:
    """Cuts a vector of at least `sum(sizes)` elements into pieces of these sizes, in order.

    One split, of which the transpose is one concatenate: slices would add up one full-size array
    per piece in the backward pass.
    """
    ends = list(itertools.accumulate(sizes))
    if ends[-1] == flat.size:
        ends.pop()
    return jnp.split(flat, ends)[: len(sizes)]


def tile(flat: jax.Array, tensors: Sequence[Tensor]) -> list[jax.Array]:
    """Cuts a vector of at least all weights into tensors, row-major, in order."""
    pieces = cut(flat, [tensor.size for tensor in tensors])
    return [piece.reshape(t.shape) for piece, t in zip(pieces, tensors, strict=True)]
