"""Several methods' pools at once, added or multiplied: the official code's meta pool."""

import dataclasses
import math
from functools import cached_property
from typing import Any, ClassVar

import jax

from smh_jax.config import arguments
from smh_jax.config.randomness import purpose_key
from smh_jax.methods.base import Part, PooledMethod, check_choice, count, default_options, of_name

# Options of methods that are no part's: what they do happens after the parts are combined.
_OF_THE_WHOLE = ("scale", "scale_per", "modifier")


@dataclasses.dataclass(frozen=True)
class Combined(PooledMethod):
    """The sum or product of what several methods generate, each from its share of the budget.

    The parts only generate weights of unit variance from their pools. Scales, stored tensors and
    the modifier are those of the combination.

    Attributes:
        parts: names of methods, each optionally with options: 'multi_hash:num_hashes=2,signs=true'.
            Parts that hash must differ in `hash_seed`.
        reducer: 'sum', divided by the square root of the number of parts, or 'product'; both keep
            unit variance.
    """

    parts: tuple[str, ...] = ("smh", "multi_hash")
    reducer: str = "sum"

    name: ClassVar[str] = "combined"

    def __post_init__(self) -> None:
        check_choice("reducer", self.reducer, ("sum", "product"))
        if not isinstance(self.parts, tuple | list) or len(self.parts) < 2:
            raise ValueError(f"parts={self.parts!r} must name at least two methods")
        object.__setattr__(self, "parts", tuple(self.parts))
        if self.distribution != "match":
            raise ValueError(
                f"distribution={self.distribution!r} must be that of a part, as in "
                f"'smh:distribution={self.distribution}': a combination has no pools of its own"
            )
        super().__post_init__()
        seeds = [m.hash_seed for m in self.methods if hasattr(m, "hash_seed")]
        if len(set(seeds)) < len(seeds):
            raise ValueError(
                f"parts={self.parts!r} would hash alike: their hash_seed is "
                f"{', '.join(map(str, seeds))} and must differ, as in 'multi_hash:hash_seed=1'"
            )

    def _generator(self, index: int, pool_budget: int) -> PooledMethod:
        """The method of a part, with pools of at most `pool_budget` variables."""
        name, _, text = self.parts[index].partition(":")
        if name in ("dense", self.name):
            raise ValueError(f"parts={self.parts!r}: {name!r} has no pools to combine")
        given = [pair.partition("=")[0].strip() for pair in text.split(",")]
        for option in _OF_THE_WHOLE:
            if option in given:
                raise ValueError(
                    f"parts={self.parts!r}: {self.parts[index]!r} cannot have {option!r}; a part "
                    "only generates weights, which are scaled and modified once combined"
                )
        options = arguments.parse(text, **default_options(name)).to_dict()
        # With one scale for each tensor, a part takes the manifest as it is, and what it counts
        # besides its pools is known.
        num_others = self.manifest.num_stored + len(self.manifest.hashed)
        return of_name(name)(self.manifest, num_others + pool_budget, **options)

    @cached_property
    def min_pool_size(self) -> int:
        """Equal shares that are large enough for every part."""
        # A budget of twice the weights is beyond the minimum of every method.
        probe, indices = 2 * self.manifest.num_hashed + 2**20, range(len(self.parts))
        return len(indices) * max(self._generator(i, probe).min_pool_size for i in indices)

    @cached_property
    def methods(self) -> tuple[PooledMethod, ...]:
        """The parts' methods; what one leaves of its share goes to the next ones."""
        left, generators = self.pool_budget, []
        for index in range(len(self.parts)):
            generator = self._generator(index, left // (len(self.parts) - index))
            left -= count(jax.eval_shape(generator.init_pools, jax.random.key(0)))
            generators.append(generator)
        return tuple(generators)

    def init_pools(self, key: jax.Array) -> dict[str, Any]:
        """The parts' pools by '0', '1', ..."""
        return {
            str(i): method.init_pools(purpose_key(key, f"part {i}"))
            for i, method in enumerate(self.methods)
        }

    def generate(self, pools: dict[str, Any], part: Part | None = None) -> list[jax.Array]:
        generated = [m.generate(pools[str(i)], part) for i, m in enumerate(self.methods)]
        if self.reducer == "product":
            return [math.prod(weights) for weights in zip(*generated, strict=True)]
        factor = len(self.parts) ** -0.5
        return [factor * sum(weights) for weights in zip(*generated, strict=True)]
