"""The state of a run, and the pure steps that every replica computes."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from smh_jax.config import OptimizerConfig
from smh_jax.manifest import Params
from smh_jax.methods import Method, Variables
from smh_jax.methods.rounding import fake_quantize
from smh_jax.training import losses, metrics
from smh_jax.training.distillation import Distillation
from smh_jax.training.parallel import AXIS_NAME

Batch = dict[str, jax.Array]


@flax.struct.dataclass
class Averages:
    """Exponential moving averages of a state's `variables` and `model_state`, in float32."""

    variables: Variables
    model_state: dict[str, Any]


@flax.struct.dataclass
class TrainState:
    """What training changes, the same on every replica.

    Attributes:
        step: number of steps taken, int32.
        variables: of the method; all that is trained.
        opt_state: of the optimizer, over `variables`.
        model_state: the model's other collections (batch statistics).
        ema: averages of both, or None in a run without.
    """

    step: jax.Array
    variables: Variables
    opt_state: optax.OptState
    model_state: dict[str, Any]
    ema: Averages | None = None

    def starting_from(self, variables: Variables, model_state: dict[str, Any]) -> "TrainState":
        """This state with other variables and model state, and averages that start from them."""
        ema = None if self.ema is None else _float32(Averages(variables, model_state))
        return self.replace(variables=variables, model_state=model_state, ema=ema)

    def evaluated(self) -> tuple[Variables, dict[str, Any]]:
        """The variables and the model's state with which the run is evaluated and handed on.

        The averages where the run keeps them, in the dtypes of what they average.
        """
        last = (self.variables, self.model_state)
        if self.ema is None:
            return last
        averages = (self.ema.variables, self.ema.model_state)
        return jax.tree.map(lambda mean, like: mean.astype(like.dtype), averages, last)


def init_state(
    model: nn.Module,
    method: Method,
    optimizer: optax.GradientTransformation,
    input_shape: tuple[int, ...],
    seed: int,
    ema: bool = False,
) -> TrainState:
    """The state before the first step; a function of the seed.

    Args:
        model, method, optimizer: of the run.
        input_shape: of one batch, batch dimension included; its first dimension may be 1.
        seed: of all initial values.
        ema: whether it holds averages.
    """

    def init(key: jax.Array) -> TrainState:
        model_key, method_key = jax.random.split(key)
        images = jnp.zeros(input_shape, jnp.float32)
        model_state = dict(
            model.init({"params": model_key, "dropout": model_key}, images, train=False)
        )
        params = model_state.pop("params")
        variables = method.init(method_key, params)
        averages = _float32(Averages(variables, model_state)) if ema else None
        return TrainState(jnp.int32(0), variables, optimizer.init(variables), model_state, averages)

    return jax.jit(init)(jax.random.key(seed))


def train_step(
    state: TrainState,
    batch: Batch,
    teacher: dict[str, Any] | None = None,
    *,
    model: nn.Module,
    method: Method,
    optimizer: optax.GradientTransformation,
    config: OptimizerConfig,
    seed: int,
    pool_precision: str = "float32",
    distillation: Distillation | None = None,
) -> tuple[TrainState, metrics.Training]:
    """One update from one replica's part of the batch; to be mapped over `AXIS_NAME`.

    Args:
        state: replicated.
        batch: `image` [examples, height, width, channels] and `label` [examples].
        teacher: collections of the model that is learned from; of a run with `distillation`.
        model, method, optimizer, config, seed: of the run, static.
        pool_precision, distillation: likewise.

    Returns:
        The next state, equal on all replicas, and the metrics of the whole batch.
    """
    microbatches = config.accumulate_steps
    step_key = jax.random.fold_in(jax.random.key(seed), state.step)
    make = functools.partial(make_weights, method, pool_precision)
    params, pull_back = jax.vjp(make, state.variables)

    def microbatch(index: jax.Array | int, part: Batch) -> tuple[Any, dict[str, jax.Array]]:
        """The gradient of the weights and the next model state, and values of each example."""
        # The randomness of so many times the devices, each with one part.
        key = jax.random.fold_in(step_key, jax.lax.axis_index(AXIS_NAME) * microbatches + index)

        def loss_function(params: Params) -> tuple[jax.Array, Any]:
            logits, model_state = model.apply(
                {"params": params, **state.model_state},
                part["image"],
                train=True,
                mutable=list(state.model_state),
                rngs={"dropout": key},
            )
            loss = losses.cross_entropy(logits, part["label"], config.label_smoothing)
            if distillation is not None:
                loss = distillation.mix(loss, logits, teacher, part["image"])
            correct = jnp.argmax(logits, -1) == part["label"]
            return jnp.mean(loss), (dict(model_state), {"loss": loss, "correct": correct})

        gradient, (model_state, outputs) = jax.grad(loss_function, has_aux=True)(params)
        return (gradient, model_state), outputs

    def regularization(variables: Variables, params: Params) -> jax.Array:
        penalty = method.penalty(variables)
        if config.weight_decay:
            penalty += config.weight_decay * losses.half_squared_norm(
                method.manifest,
                variables,
                params,
                config.weight_decay_on,
                config.weight_decay_exclude,
            )
        return penalty

    (on_weights, model_state), outputs = _mean_over_parts(microbatch, batch, microbatches)
    shrink_variables, shrink_weights = jax.grad(regularization, (0, 1))(state.variables, params)
    (gradient,) = pull_back(optax.tree.add(on_weights, shrink_weights))
    gradient = jax.lax.pmean(optax.tree.add(gradient, shrink_variables), AXIS_NAME)
    # Running statistics are averaged even where batches are normalised locally, so that the state
    # is one on all replicas and a checkpoint holds all of it.
    model_state = jax.lax.pmean(model_state, AXIS_NAME)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.variables)
    variables = optax.apply_updates(state.variables, updates)
    measured = metrics.gather(
        metrics.Training, **outputs, grad_norm=optax.tree.norm(gradient)[jnp.newaxis]
    )
    ema = state.ema
    if config.ema_decay is not None:
        # The warm-up of TensorFlow's ExponentialMovingAverage given the number of updates.
        decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(_float32(Averages(variables, model_state)), ema, 1 - decay)
    return TrainState(state.step + 1, variables, opt_state, model_state, ema), measured


def _mean_over_parts(
    function: Callable[[Any, Batch], tuple[Any, dict[str, jax.Array]]], batch: Batch, parts: int
) -> tuple[Any, dict[str, jax.Array]]:
    """Calls `function(index, part)` on equal parts of a batch, one after the other.

    Returns:
        The mean of its first results, and its second, values of each example, of the whole batch.
    """
    if parts == 1:
        return function(0, batch)
    batch = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)

    def add(total: Any, index_and_part: tuple[jax.Array, Batch]) -> tuple[Any, Any]:
        result, outputs = function(*index_and_part)
        return jax.tree.map(lambda t, x: t + x / parts, total, result), outputs

    like, _ = jax.eval_shape(function, 0, jax.tree.map(lambda x: x[0], batch))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    total, outputs = jax.lax.scan(add, zeros, (jnp.arange(parts), batch))
    return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)


def make_weights(method: Method, pool_precision: str, variables: Variables) -> Params:
    """All weights, of pools that are rounded as they will be stored."""
    if pool_precision != "float32":
        pools = jax.tree.map(lambda pool: fake_quantize(pool, pool_precision), variables["pools"])
        variables = {**variables, "pools": pools}
    return method.materialize(variables)


def _float32(tree: Averages) -> Averages:
    """An average in bfloat16 would not move: its steps are smaller than half a unit."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def eval_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    method: Method,
    pool_precision: str = "float32",
) -> metrics.Evaluation:
    """Metrics of a batch with a `mask` [examples], over all replicas; see `train_step`."""
    variables, model_state = state.evaluated()
    params = make_weights(method, pool_precision, variables)
    logits = model.apply({"params": params, **model_state}, batch["image"], train=False)
    return metrics.gather(
        metrics.Evaluation,
        loss=losses.cross_entropy(logits, batch["label"], label_smoothing=0.0),
        correct=jnp.argmax(logits, -1) == batch["label"],
        mask=batch["mask"],
    )
