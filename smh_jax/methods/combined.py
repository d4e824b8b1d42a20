"""Several methods' pools at once, added or multiplied: the official code's meta pool."""

import dataclasses
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import jax

from smh_jax.config import arguments
from smh_jax.methods.base import PooledMethod, check_choice, count, default_options, of_name


@dataclasses.dataclass(frozen=True)
class Combined(PooledMethod):
    """The sum or product of what several methods generate, each from its share of the budget.

    Attributes:
        parts: names of methods, each optionally with options: 'multi_hash:num_hashes=2,signs=true'.
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
        super().__post_init__()

    def _build(self, part: str, pool_budget: int) -> PooledMethod:
        """The part's method with pools of at most `pool_budget` variables."""
        name, _, text = part.partition(":")
        if name in ("dense", self.name):
            raise ValueError(f"parts={self.parts!r}: {name!r} has no pools to combine")
        options = arguments.parse(text, **default_options(name)).to_dict()
        # Scales and stored tensors are this method's; the part counts one scale per tensor and the
        # stored tensors to leave its pools exactly this budget.
        beside = self.manifest.num_stored + len(self.manifest.hashed)
        return of_name(name)(self.manifest, beside + pool_budget, **options)

    @cached_property
    def min_pool_size(self) -> int:
        """Equal shares that are large enough for every part."""
        # A budget of twice the weights is beyond the minimum of every method.
        probe = 2 * self.manifest.num_hashed + 2**20
        return len(self.parts) * max(self._build(p, probe).min_pool_size for p in self.parts)

    @cached_property
    def methods(self) -> tuple[PooledMethod, ...]:
        """The parts' methods; what one leaves of its share goes to the next ones."""
        left, made = self.pool_budget, []
        for index, part in enumerate(self.parts):
            method = self._build(part, left // (len(self.parts) - index))
            left -= count(jax.eval_shape(method.init_pools, jax.random.key(0)))
            made.append(method)
        return tuple(made)

    def init_pools(self, key: jax.Array) -> dict[str, Any]:
        """The parts' pools by '0', '1', ..."""
        keys = jax.random.split(key, len(self.parts))
        return {
            str(i): m.init_pools(k) for i, (m, k) in enumerate(zip(self.methods, keys, strict=True))
        }

    def generate(self, pools: dict[str, Any]) -> list[jax.Array]:
        """See `PooledMethod.generate`."""
        return self._combine([m.generate(pools[str(i)]) for i, m in enumerate(self.methods)])

    def generate_part(
        self, pools: dict[str, Any], first: int, last: int, zero: jax.Array
    ) -> list[jax.Array]:
        """See `PooledMethod.generate_part`."""
        return self._combine(
            [m.generate_part(pools[str(i)], first, last, zero) for i, m in enumerate(self.methods)]
        )

    def _combine(self, generated: Sequence[Sequence[jax.Array]]) -> list[jax.Array]:
        if self.reducer == "product":
            return [math.prod(weights) for weights in zip(*generated, strict=True)]
        factor = len(self.parts) ** -0.5
        return [factor * sum(weights) for weights in zip(*generated, strict=True)]
