"""The state of a run, and the pure steps that every replica computes."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from smh_jax import losses, metrics
from smh_jax.config import OptimizerConfig
from smh_jax.methods import Method, Variables
from smh_jax.parallel import AXIS_NAME

Batch = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """What training changes, the same on every replica.

    Attributes:
        step: number of steps taken, int32.
        variables: of the method; all that is trained.
        opt_state: of the optimizer, over `variables`.
        model_state: the model's other collections (batch statistics).
    """

    step: jax.Array
    variables: Variables
    opt_state: optax.OptState
    model_state: dict[str, Any]


def init_state(
    model: nn.Module,
    method: Method,
    optimizer: optax.GradientTransformation,
    input_shape: tuple[int, ...],
    seed: int,
) -> TrainState:
    """The state before the first step; a function of the seed.

    Args:
        model, method, optimizer: of the run.
        input_shape: of one batch, batch dimension included; its first dimension may be 1.
        seed: of all initial values.
    """

    def init(key: jax.Array) -> TrainState:
        model_key, method_key = jax.random.split(key)
        images = jnp.zeros(input_shape, jnp.float32)
        model_state = dict(
            model.init({"params": model_key, "dropout": model_key}, images, train=False)
        )
        params = model_state.pop("params")
        variables = method.init(method_key, params)
        return TrainState(jnp.int32(0), variables, optimizer.init(variables), model_state)

    return jax.jit(init)(jax.random.key(seed))


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    method: Method,
    optimizer: optax.GradientTransformation,
    config: OptimizerConfig,
    seed: int,
) -> tuple[TrainState, metrics.Training]:
    """One update from one replica's part of the batch; to be mapped over `AXIS_NAME`.

    Args:
        state: replicated.
        batch: `image` [examples, height, width, channels] and `label` [examples].
        model, method, optimizer, config, seed: of the run, static.

    Returns:
        The next state, equal on all replicas, and the metrics of the whole batch.
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    key = jax.random.fold_in(key, jax.lax.axis_index(AXIS_NAME))

    def loss_function(variables: Variables) -> tuple[jax.Array, Any]:
        params = method.materialize(variables)
        logits, model_state = model.apply(
            {"params": params, **state.model_state},
            batch["image"],
            train=True,
            mutable=list(state.model_state),
            rngs={"dropout": key},
        )
        loss = losses.cross_entropy(logits, batch["label"], config.label_smoothing)
        penalty = method.penalty(variables)
        if config.weight_decay:
            penalty += config.weight_decay * losses.half_squared_norm(
                method.manifest, variables, params, config.weight_decay_on
            )
        return jnp.mean(loss) + penalty, (loss, logits, dict(model_state))

    gradient, (loss, logits, model_state) = jax.grad(loss_function, has_aux=True)(state.variables)
    gradient = jax.lax.pmean(gradient, AXIS_NAME)
    # Running statistics are averaged even where batches are normalised locally, so that the state
    # is one on all replicas and a checkpoint holds all of it.
    model_state = jax.lax.pmean(model_state, AXIS_NAME)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.variables)
    variables = optax.apply_updates(state.variables, updates)
    measured = metrics.gather(
        metrics.Training,
        loss=loss,
        correct=jnp.argmax(logits, -1) == batch["label"],
        grad_norm=optax.tree.norm(gradient)[jnp.newaxis],
    )
    return TrainState(state.step + 1, variables, opt_state, model_state), measured


def eval_step(
    state: TrainState, batch: Batch, *, model: nn.Module, method: Method
) -> metrics.Evaluation:
    """Metrics of a batch with a `mask` [examples], over all replicas; see `train_step`."""
    params = method.materialize(state.variables)
    logits = model.apply({"params": params, **state.model_state}, batch["image"], train=False)
    return metrics.gather(
        metrics.Evaluation,
        loss=losses.cross_entropy(logits, batch["label"], label_smoothing=0.0),
        correct=jnp.argmax(logits, -1) == batch["label"],
        mask=batch["mask"],
    )
