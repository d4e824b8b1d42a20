"""Training with pools of which most elements are 0, which cost an entropy coder almost nothing."""

import dataclasses

import jax
import jax.numpy as jnp

from smh_jax.methods.around import Around
from smh_jax.methods.base import Method, Variables

# Share of training after which the sparsity stays: half of it, at falling learning rates, is left
# for what remains.
RAMP = 0.5


@dataclasses.dataclass(frozen=True)
class Pruned(Around):
    """A method around a method: the same variables, weights made from pools with many zeros.

    The smallest magnitudes of each pool become 0, more and more of them as training proceeds
    (Zhu & Gupta 2017); what is smallest is decided anew in every step. The gradient passes straight
    through to all elements, so that a pruned one can return (Lin et al. 2020).

    Attributes:
        inner: the method around which it is. Where that rounds, what is pruned is rounded.
        sparsity: share of each pool that is 0, in [0, 1); while it trains (`at`), a scalar.
    """

    sparsity: float | jax.Array

    def __repr__(self) -> str:
        return f"Pruned({self.inner!r}, {self.sparsity!r})"

    def changed(self, variables: Variables) -> Variables:
        def prune_straight_through(pool: jax.Array) -> jax.Array:
            return pool + jax.lax.stop_gradient(prune(pool, self.sparsity) - pool)

        return self.inner.map_pools(prune_straight_through, variables)

    def at(self, progress: jax.Array | float) -> Method:
        sparsity = sparsity_at(progress, self.sparsity)
        return dataclasses.replace(self, inner=self.inner.at(progress), sparsity=sparsity)

    def penalty(self, variables: Variables) -> jax.Array:
        return self.inner.penalty(self.changed(variables))

    def measures(self, variables: Variables) -> dict[str, jax.Array]:
        """With `sparsity`, the share of all pools' elements that are 0."""
        changed = self.changed(variables)
        pools = self.pools(changed)
        zeros = sum(jnp.sum(pool == 0) for pool in pools)
        share = zeros / sum(pool.size for pool in pools)
        return {"sparsity": share, **self.inner.measures(changed)}

    def exported(self, variables: Variables) -> Variables:
        return self.inner.exported(self.changed(variables))


def pruned(method: Method, sparsity: float) -> Method:
    """The method with pools of which this share is 0; itself for 0.

    Raises:
        ValueError: unless the share is at least 0 and below 1.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"pruning={sparsity} must be at least 0 and below 1")
    if sparsity == 0:
        return method
    return Pruned(method.manifest, method.target_size, method, sparsity)


def sparsity_at(progress: jax.Array | float, final: float) -> jax.Array:
    """The sparsity after a share of training: fast at first, and slower and slower.

    `final * (1 - (1 - progress / RAMP)^3)` up to RAMP and `final` from there on: equation 1 of Zhu
    & Gupta 2017 from 0, over the first part of training, in every step.
    """
    left = 1 - jnp.minimum(progress / RAMP, 1)
    return final * (1 - left**3)


def prune(pool: jax.Array, sparsity: jax.Array | float) -> jax.Array:
    """A pool, of any shape, whose smallest magnitudes are 0: this share of its elements.

    Rounded down; elements of the magnitude of the smallest one that stays all stay.
    """
    magnitudes = jnp.abs(pool)
    count = jnp.floor(sparsity * pool.size).astype(jnp.int32)
    threshold = jnp.sort(magnitudes, axis=None)[count]
    return jnp.where(magnitudes < threshold, 0, pool)
