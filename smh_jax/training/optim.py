"""Learning-rate schedules and optimizers, from the base values of a config."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from smh_jax.config import OptimizerConfig
from smh_jax.methods import Method, Variables
from smh_jax.training import losses

# The learning rates of configs are for this many examples per step.
BASE_BATCH_SIZE = 256


def learning_rate(
    config: OptimizerConfig, *, batch_size: int, steps_per_epoch: float, num_steps: int
) -> optax.Schedule:
    """The learning rate by step, scaled to the batch size.

    Args:
        config: base values.
        batch_size: examples per step over all devices.
        steps_per_epoch: may be fractional: the stream of examples has no border between epochs.
        num_steps: of the whole training.
    """
    peak = config.learning_rate * batch_size / BASE_BATCH_SIZE
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if config.schedule == "one_cycle":
        return optax.cosine_onecycle_schedule(num_steps, peak)
    if config.schedule == "staircase":
        return _staircase(config, peak, warmup, config.decay_every_epochs * steps_per_epoch)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(1, num_steps - warmup))
    elif config.schedule == "piecewise":
        after = optax.piecewise_constant_schedule(
            peak,
            {
                round(epoch * steps_per_epoch) - warmup: config.decay_factor
                for epoch in config.decay_epochs
            },
        )
    else:
        after = optax.constant_schedule(peak)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _staircase(
    config: OptimizerConfig, peak: float, warmup: int, decay_steps: float
) -> optax.Schedule:
    """EfficientNet's: the steps of the warm-up count towards the decay, which joins at a jump.

    `optax.warmup_exponential_decay_schedule` would count from the end of the warm-up.
    """
    decayed = optax.exponential_decay(peak, decay_steps, config.decay_factor, staircase=True)

    def schedule(step: jax.Array) -> jax.Array:
        return jnp.where(step < warmup, peak * step / max(1, warmup), decayed(step))

    return schedule


def create(
    config: OptimizerConfig, schedule: optax.Schedule, method: Method | None = None
) -> optax.GradientTransformation:
    """The optimizer of a method's variables; pools and scales move at their own rates.

    Args:
        config: base values.
        schedule: the learning rate by step.
        method: that makes the weights of the variables; for decoupled weight decay.
    """
    if config.name == "adam":
        optimizer = optax.adam(schedule, b2=config.beta2)
    elif config.name == "adamw":
        optimizer = optax.chain(
            optax.scale_by_adam(b2=config.beta2),
            _decoupled_decay(config, method),
            optax.scale_by_learning_rate(schedule),
        )
    elif config.name == "sgd":
        optimizer = optax.sgd(schedule)
    elif config.name == "rmsprop":
        # As tf.compat.v1.train.RMSPropOptimizer: the mean of squares starts at 1, epsilon is added
        # under the root, and the momentum gathers updates that hold the learning rate already.
        optimizer = optax.rmsprop(
            schedule,
            decay=config.rms_decay,
            eps=config.epsilon,
            initial_scale=1.0,
            eps_in_sqrt=True,
            momentum=config.momentum,
        )
    else:
        nesterov = config.name == "nesterov"
        optimizer = optax.sgd(schedule, momentum=config.momentum, nesterov=nesterov)
    return _at_rates(optimizer, config)


def _decoupled_decay(
    config: OptimizerConfig, method: Method | None
) -> optax.GradientTransformation:
    """Adds the gradient of the weight decay to updates (Loshchilov and Hutter, arXiv:1711.05101).

    On 'weights', those that the variables generate: the updates that would shrink them.
    """
    if not config.weight_decay:
        return optax.identity()
    if method is None:
        raise ValueError("weight decay of 'adamw' needs the method that makes the weights")

    def penalty(variables: Variables) -> jax.Array:
        # The decay on variables asks for none of the weights, which are then not computed.
        return losses.decay(variables, method.materialize(variables), method, config)

    def add(updates: Variables, variables: Variables) -> Variables:
        return optax.tree.add(updates, jax.grad(penalty)(variables))

    return optax.stateless(add)


def optimizer(
    compressed: Any,
    tx: optax.GradientTransformation,
    *,
    pool_rate: float = 2.0,
    scale_rate: float = 0.1,
    clip_norm: float | None = 1.0,
    weight_decay: float = 0.0,
    weight_decay_on: str = "variables",
    weight_decay_exclude: str = "",
) -> optax.GradientTransformation:
    """An optimizer for a loop of one's own that treats variables as the trainer does.

    Weight decay is added to the gradient, which is then clipped; what `tx` makes of it is
    multiplied by each group's rate. The defaults are those of the recipes (`configs/methods.py`).

    Args:
        compressed: what `smh_jax.compress` gave.
        tx: any optimizer whose updates are proportional to its learning rate, such as
            `optax.sgd(schedule, momentum=0.9)`.
        pool_rate, scale_rate: multiply the learning rate of the pools and of the scales.
        clip_norm: largest global norm of the gradient of all variables; None does not clip.
        weight_decay, weight_decay_on, weight_decay_exclude: as in `OptimizerConfig`.

    Raises:
        ValueError: for a value out of its range.
    """
    config = OptimizerConfig(
        pool_rate=pool_rate,
        scale_rate=scale_rate,
        clip_norm=clip_norm,
        weight_decay=weight_decay,
        weight_decay_on=weight_decay_on,
        weight_decay_exclude=weight_decay_exclude,
    )
    method = compressed.method
    # NNX keeps its variables in a tree of its own kind, with the leaves in the same order.
    structure = jax.tree.structure(method.abstract_variables)

    def penalty(leaves: list[jax.Array]) -> jax.Array:
        variables = jax.tree.unflatten(structure, leaves)
        return losses.regularization(variables, method.materialize(variables), method, config)

    def regularize(gradient: Any, variables: Any) -> Any:
        leaves, kind = jax.tree.flatten(variables)
        return optax.tree.add(gradient, jax.tree.unflatten(kind, jax.grad(penalty)(leaves)))

    return optax.chain(optax.stateless(regularize), _at_rates(tx, config))


def _at_rates(
    optimizer: optax.GradientTransformation, config: OptimizerConfig
) -> optax.GradientTransformation:
    """The optimizer of a method's variables: clipped before it, and each group's rate after it."""
    rates = {"pools": config.pool_rate, "scales": config.scale_rate, "stored": 1.0, "frozen": 0.0}

    def labels(variables: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: jax.tree_util.keystr(path[:1], simple=True), variables
        )

    clip = [] if config.clip_norm is None else [optax.clip_by_global_norm(config.clip_norm)]
    # All of these optimizers' updates are proportional to the learning rate.
    return optax.chain(
        *clip,
        optimizer,
        optax.partition({group: optax.scale(rate) for group, rate in rates.items()}, labels),
    )
