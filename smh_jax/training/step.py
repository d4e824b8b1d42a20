"""The state of a run, and the pure steps that every replica computes."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from smh_jax.config import OptimizerConfig
from smh_jax.config.randomness import purpose_key
from smh_jax.methods import Method, Variables
from smh_jax.training import elastic, forward, losses, metrics, tasks
from smh_jax.training.distillation import Distillation
from smh_jax.training.forward import ModelState
from smh_jax.training.parallel import AXIS_NAME

Batch = dict[str, jax.Array]


@flax.struct.dataclass
class Averages:
    """Exponential moving averages of a state's `variables` and `model_state`, in float32."""

    variables: Variables
    model_state: ModelState


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
    model_state: ModelState
    ema: Averages | None = None

    def starting_from(self, variables: Variables, model_state: ModelState) -> "TrainState":
        """This state with other variables and model state, and averages that start from them."""
        ema = None if self.ema is None else _float32(Averages(variables, model_state))
        return self.replace(variables=variables, model_state=model_state, ema=ema)

    def evaluated(self) -> tuple[Variables, ModelState]:
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
    input_shape: tuple[int, ...] | jax.ShapeDtypeStruct,
    seed: int,
    ema: bool = False,
) -> TrainState:
    """The state before the first step; a function of the seed.

    Args:
        model, method, optimizer: of the run.
        input_shape: of one batch of images, batch dimension included, which may be 1; or shape and
            dtype of one of other inputs.
        seed: of all initial values.
        ema: whether it holds averages.
    """

    def init(key: jax.Array) -> TrainState:
        params, model_state = forward.initial_collections(
            model, input_shape, purpose_key(key, "model")
        )
        variables = method.init(purpose_key(key, "variables"), params)
        model_state = elastic.initial_state(method, model_state)
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
    distillation: Distillation | None = None,
    num_steps: int | None = None,
    num_drawn: int = 0,
    task: tasks.Task = tasks.DEFAULT,
) -> tuple[TrainState, metrics.Training]:
    """One update from one replica's share of the batch; to be mapped over `AXIS_NAME`.

    Args:
        state: replicated.
        batch: as the task has it, [examples, ...] each.
        teacher: collections of the teacher's model, in a run with `distillation`.
        model, method, optimizer, config, seed, distillation: of the run, static.
        num_steps: of the whole training, for a method that changes in its course (`Method.at`);
            None trains it as it is.
        num_drawn: of an elastic method, how many sizes are trained besides the two extreme ones.
        task: what is learned.

    Returns:
        The next state, equal on all replicas, and the metrics of the whole batch.
    """
    if num_steps is not None:
        method = method.at(state.step / num_steps)
    learner = elastic.of_step(method, num_drawn, seed, state.step)
    weights, pull_back = jax.vjp(learner.materialize, state.variables)

    def microbatch_gradient(index: jax.Array | int, microbatch: Batch) -> tuple[Any, Any]:
        def loss_function(weights: Any) -> tuple[jax.Array, Any]:
            key = _dropout_key(seed, state.step, index, config.accumulate_steps)
            inputs = microbatch[task.input]
            logits, next_state, of_others = learner.training_logits(
                model, weights, state.model_state, inputs, key
            )
            measured = task.measure(logits, microbatch, config.label_smoothing)
            loss = measured["loss"]
            if distillation is not None:
                loss = distillation.mix(loss, logits, teacher, inputs)
            return jnp.mean(loss) + of_others, (next_state, {**measured, "loss": loss})

        gradient, (next_state, outputs) = jax.grad(loss_function, has_aux=True)(weights)
        return (gradient, next_state), outputs

    def penalty(variables: Variables, weights: Any) -> jax.Array:
        return losses.regularization(variables, learner.largest(weights), method, config)

    (to_weights, next_state), outputs = _mean_over_microbatches(
        microbatch_gradient, batch, config.accumulate_steps
    )
    to_variables, penalty_to_weights = jax.grad(penalty, (0, 1))(state.variables, weights)
    (gradient,) = pull_back(optax.tree.add(to_weights, penalty_to_weights))
    gradient = jax.lax.pmean(optax.tree.add(gradient, to_variables), AXIS_NAME)
    # Running statistics are averaged even where batches are normalized locally, so that the state
    # is the same on all replicas and a checkpoint holds all of it.
    next_state = jax.lax.pmean(next_state, AXIS_NAME)
    model_state = learner.next_state(state.model_state, next_state)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.variables)
    variables = optax.apply_updates(state.variables, updates)
    ema = _updated_averages(state, Averages(variables, model_state), config.ema_decay)
    grad_norm = optax.tree.norm(gradient)[jnp.newaxis]
    measured = metrics.gather(metrics.Training, **outputs, grad_norm=grad_norm)
    return TrainState(state.step + 1, variables, opt_state, model_state, ema), measured


def _dropout_key(
    seed: int, step: jax.Array, microbatch: jax.Array | int, num_microbatches: int
) -> jax.Array:
    """The key of one microbatch of this replica: that of as many replicas with one each."""
    key = jax.random.fold_in(purpose_key(jax.random.key(seed), "dropout"), step)
    replica = jax.lax.axis_index(AXIS_NAME)
    return jax.random.fold_in(key, replica * num_microbatches + microbatch)


def _mean_over_microbatches(
    function: Callable[[Any, Batch], tuple[Any, dict[str, jax.Array]]], batch: Batch, count: int
) -> tuple[Any, dict[str, jax.Array]]:
    """Calls `function(index, microbatch)` on equal shares of a batch, one after the other.

    Returns:
        The mean of its first results, and its second, values of each example, of the whole batch.
    """
    if count == 1:
        return function(0, batch)
    batch = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)

    def add(total: Any, index_and_microbatch: tuple[jax.Array, Batch]) -> tuple[Any, Any]:
        result, outputs = function(*index_and_microbatch)
        return jax.tree.map(lambda t, x: t + x / count, total, result), outputs

    like, _ = jax.eval_shape(function, 0, jax.tree.map(lambda x: x[0], batch))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    total, outputs = jax.lax.scan(add, zeros, (jnp.arange(count), batch))
    return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)


def _updated_averages(
    state: TrainState, latest: Averages, ema_decay: float | None
) -> Averages | None:
    """The averages after a step; None in a run without."""
    if ema_decay is None:
        return None
    # The warm-up of TensorFlow's ExponentialMovingAverage given the number of updates.
    decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
    return optax.incremental_update(_float32(latest), state.ema, 1 - decay)


def _float32(tree: Averages) -> Averages:
    """An average in bfloat16 would not move: its steps are smaller than half a unit."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def eval_step(
    evaluated: tuple[Variables, ModelState],
    batch: Batch,
    *,
    model: nn.Module,
    method: Method,
    task: tasks.Task = tasks.DEFAULT,
) -> metrics.Evaluation:
    """Metrics of a batch over all replicas; to be mapped over `AXIS_NAME`.

    Args:
        evaluated: variables of the method and the model's state, replicated.
        batch: as in `train_step`, with a `mask`, 0 where an example or a part of it is
            not counted.
        model, method, task: static.
    """
    variables, model_state = evaluated
    logits = forward.logits(model, method, variables, model_state, batch[task.input])
    measured = task.measure(logits, batch, label_smoothing=0.0)
    return metrics.gather(metrics.Evaluation, **measured, mask=batch["mask"])
