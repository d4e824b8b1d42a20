"""Learning-compression: dense weights that are drawn to those of a method while they train.

Carreira-Perpinan (2017, arXiv:1707.01209), for low rank Idelbayev and Carreira-Perpinan (2020). The
loss of the weights w with the penalty mu/2 ||w - g(z)||^2, where g(z) are the weights that a method
generates from its variables z, is lowered in w by the optimizer and in z by a few steps of Adam, in
turns, while mu grows. So the weights lose what the method cannot express while the loss still has a
say in what that is. Here it is an optax transformation around the optimizer of the dense weights,
whose state holds z: step, loop and checkpoints are those of any other run.

The penalty enters as a proximal step, which no mu makes unstable and clipping does not see: what
the optimizer makes of w, then

    w <- (w + s g(z)) / (1 + s),    s = mu times the learning rate.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from smh_jax.config import PullConfig
from smh_jax.methods import Method, Variables


class PullState(NamedTuple):
    """State of the transformation.

    Attributes:
        step: number of updates so far.
        inner: of the optimizer of the dense weights.
        variables: z, of the method to whose weights they are drawn.
        refit: of Adam, over `variables`.
    """

    step: jax.Array
    inner: optax.OptState
    variables: Variables
    refit: optax.OptState


def strength(config: PullConfig, step: jax.Array, num_steps: int) -> jax.Array:
    """s at a step: from `config.first` at step 0 geometrically to `config.last` at the last one."""
    done = step / max(1, num_steps - 1)
    return config.first * (config.last / config.first) ** done


def pulled(
    optimizer: optax.GradientTransformation, method: Method, config: PullConfig, num_steps: int
) -> optax.GradientTransformation:
    """The optimizer of a dense model, whose weights it also draws to those of a method.

    Args:
        optimizer: of the variables of method 'dense'.
        method: that makes all weights of the same model.
        config: how strongly, and how its variables follow.
        num_steps: of the whole training.
    """
    manifest = method.manifest
    adam = optax.adam(config.refit_rate)

    def init(dense: Variables) -> PullState:
        params = manifest.tree(dense["stored"])
        variables = method.init(jax.random.key(0), params)
        return PullState(jnp.int32(0), optimizer.init(dense), variables, adam.init(variables))

    def distance(variables: Variables, weights: dict[str, jax.Array]) -> jax.Array:
        """Half the sum of the hashed tensors' squared relative errors, each times its size.

        That is what `Method.fit` minimizes: a weight counts the same in every layer.
        """
        generated = manifest.leaves(method.materialize(variables))
        squares = (
            t.size
            * jnp.sum(jnp.square(generated[t.name] - weights[t.name]))
            / jnp.maximum(jnp.sum(jnp.square(weights[t.name])), 1e-12)
            for t in manifest.hashed
        )
        return 0.5 * sum(squares, jnp.float32(0))

    def update(gradient: Any, state: PullState, dense: Variables) -> tuple[Any, PullState]:
        updates, inner = optimizer.update(gradient, state.inner, dense)
        weights = optax.apply_updates(dense, updates)["stored"]
        # Tensors that the method stores are those of the dense model.
        stored = {tensor.name: weights[tensor.name] for tensor in manifest.stored}
        variables, refit = {**state.variables, "stored": stored}, state.refit
        for _ in range(config.refits):
            change, refit = adam.update(jax.grad(distance)(variables, weights), refit)
            variables = {**optax.apply_updates(variables, change), "stored": stored}
        generated = manifest.leaves(method.materialize(variables))
        s = strength(config, state.step, num_steps)
        drawn = {name: (w + s * generated[name]) / (1 + s) for name, w in weights.items()}
        updates = jax.tree.map(jnp.subtract, {"stored": drawn}, dense)
        return updates, PullState(state.step + 1, inner, variables, refit)

    return optax.GradientTransformation(init, update)


def fitted(state: PullState, method: Method, dense: Variables) -> PullState:
    """The state with the method's variables fitted to dense weights, from which training starts."""
    variables = method.fit(method.manifest.tree(dense["stored"]))
    like = jax.tree.map(lambda leaf, old: leaf.astype(old.dtype), variables, state.variables)
    return state._replace(variables=like)
