"""What a step trains: the one model of an ordinary run, or several sizes of an elastic one.

The sandwich rule (Yu and Huang 2019, arXiv:1903.05134): the largest size, the smallest and a few
that are drawn in between. The largest learns from the labels; the others learn the logits that it
has in the same step (in-place distillation), from which no gradient comes back to it. Their losses
are added up, each times sqrt(m / M), the root of its share of the hash pairs: a size's pools are
multiplied by (M / m)^(1/4) each (`methods/elastic.py`), so that their gradients come back longer by
sqrt(M / m), and the smallest size would outvote the others. Each size has its own batch statistics:
the model's state has a leading axis of sizes.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.config.randomness import purpose_key
from smh_jax.manifest import Params
from smh_jax.methods import Elastic, Method, Variables
from smh_jax.training import forward, losses
from smh_jax.training.forward import ModelState


@dataclasses.dataclass(frozen=True)
class Whole:
    """The model of an ordinary run: all of it, as its method makes it."""

    method: Method

    def materialize(self, variables: Variables) -> Any:
        """The weights that the step trains."""
        return self.method.materialize(variables)

    def largest(self, weights: Any) -> Params:
        """Of these weights those of the whole model."""
        return weights

    def training_logits(
        self, model: nn.Module, weights: Any, model_state: ModelState, inputs: Any, key: jax.Array
    ) -> tuple[jax.Array, Any, jax.Array | float]:
        """Logits of the whole model, the next state of what is trained, and a loss besides."""
        return *forward.training_logits(model, weights, model_state, inputs, key), 0.0

    def next_state(self, model_state: ModelState, trained: Any) -> ModelState:
        """The model's next state: the last one with what changed in training."""
        return {**model_state, **trained}


@dataclasses.dataclass(frozen=True)
class Sandwich(Whole):
    """Some sizes of an elastic model.

    Attributes:
        method: of all sizes.
        indices: of the sizes, the largest first; those that were drawn are traced.
    """

    method: Elastic
    indices: tuple[int | jax.Array, ...]

    def materialize(self, variables):
        return tuple(self.method.at_size(index).materialize(variables) for index in self.indices)

    def largest(self, weights):
        return weights[0]

    def training_logits(self, model, weights, model_state, inputs, key):
        logits, states = zip(
            *(
                forward.training_logits(
                    model, params, state_of_size(model_state, index), inputs, key
                )
                for index, params in zip(self.indices, weights, strict=True)
            ),
            strict=True,
        )
        teacher = jax.lax.stop_gradient(logits[0])
        pairs = jnp.asarray(self.method.num_hash_pairs)
        of_others = sum(
            jnp.sqrt(pairs[index] / pairs[-1])
            * jnp.mean(losses.softened_divergence(x, teacher, 1.0))
            for index, x in zip(self.indices[1:], logits[1:], strict=True)
        )
        return logits[0], states, of_others

    def next_state(self, model_state, trained):
        indices = jnp.asarray(self.indices)

        def replace(every: jax.Array, *new: jax.Array) -> jax.Array:
            return every.at[indices].set(jnp.stack(new))

        return jax.tree.map(replace, model_state, *trained)


def of_step(method: Method, num_drawn: int, seed: int, step: jax.Array) -> Whole:
    """What a step trains.

    Args:
        method: of the run.
        num_drawn: of an elastic run, how many sizes are drawn of those in between; a function of
            the seed and the step.
        seed: of the run.
        step: its number, an int32 scalar.
    """
    if not isinstance(method, Elastic):
        return Whole(method)
    last = len(method.sizes) - 1
    drawn = range(1, last)
    if num_drawn < len(drawn):
        key = jax.random.fold_in(purpose_key(jax.random.key(seed), "sizes"), step)
        drawn = jax.random.permutation(key, jnp.arange(1, last))[:num_drawn]
    return Sandwich(method, (last, 0, *drawn))


def initial_state(method: Method, model_state: ModelState) -> ModelState:
    """The state of a model before the first step: of an elastic run the same for every size."""
    if not isinstance(method, Elastic):
        return model_state
    count = len(method.sizes)
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), model_state)


def state_of_size(model_state: ModelState, index: int | jax.Array) -> ModelState:
    """Of an elastic run's model state that of one size."""
    return jax.tree.map(lambda x: x[index], model_state)


def of_size(
    method: Method, variables: Variables, model_state: ModelState, *index: jax.Array
) -> tuple[Method, tuple[Variables, ModelState]]:
    """What a run is evaluated with: of an elastic one, that of the size at an index."""
    if not isinstance(method, Elastic):
        return method, (variables, model_state)
    return method.at_size(*index), (variables, state_of_size(model_state, *index))
