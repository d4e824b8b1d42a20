"""How good a model is on a split: the one evaluation loop, of runs and of artifacts."""

import collections
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from smh_jax.config import DataConfig
from smh_jax.methods import Method, Variables
from smh_jax.training import metrics, parallel, several, tasks
from smh_jax.training.forward import ModelState
from smh_jax.training.step import eval_step

# Steps that are dispatched before the metrics of an earlier one are read: enough to keep the
# devices busy, and few enough to bound the batches that wait in their memory.
STEPS_AHEAD = 4


def evaluate(
    mapped_step: Callable[[Any, Any], metrics.Evaluation],
    replicated: Any,
    split: tasks.Split,
    dataset: tasks.Dataset,
    config: DataConfig,
    backend: parallel.Backend,
    task: tasks.Task = tasks.DEFAULT,
) -> dict[str, float]:
    """Mean `loss` in nats, `accuracy` and number of `examples` of a split, each counted once.

    What an example is, and which figures besides follow from these, is the task's.

    Args:
        mapped_step: of `replicated` and a batch.
        replicated: the state that is evaluated.
        split: the examples.
        dataset: that the split is of.
        config: batch size and dtype of the images.
        backend: that mapped the step and replicated the state.
        task: what is measured.
    """
    devices = jax.device_count()
    batches = task.eval_batches(
        split,
        dataset,
        config,
        # Padding is masked, so the batch may grow to what the devices divide.
        batch_size=math.ceil(config.eval_batch_size / devices) * devices,
        host=jax.process_index(),
        num_hosts=jax.process_count(),
    )
    pending: collections.deque[metrics.Evaluation] = collections.deque()
    measured = []
    for batch in backend.to_devices(batches):
        pending.append(mapped_step(replicated, batch))
        if len(pending) > STEPS_AHEAD:
            measured.append(backend.first_replica(pending.popleft()))
    measured += map(backend.first_replica, pending)
    means = metrics.mean(measured)
    counted = {"examples": sum(float(m.accuracy.count) for m in measured)}
    return means | counted | task.derived(means, dataset)


def evaluate_sizes(
    mapped_step: Callable[..., metrics.Evaluation],
    replicated: Any,
    sizes: Sequence[int],
    backend: parallel.Backend,
    **data: Any,
) -> dict[str, float]:
    """`evaluate` of every size of an elastic run, by one program; of any other run, `evaluate`.

    What has no size in its name is of the largest; `accuracy_750` and `loss_750` are of the size
    of 750 variables.

    Args:
        mapped_step: of `replicated`, a batch and, where there are sizes, the replicated index of
            one.
        replicated: the state that is evaluated.
        sizes: of the run, rising; () if it is not elastic.
        backend: that mapped the step and replicated the state.
        **data: the other arguments of `evaluate`.
    """
    if not sizes:
        return evaluate(mapped_step, replicated, backend=backend, **data)
    of_sizes: dict[str, float] = {}
    for index, size in enumerate(sizes):
        which = backend.replicate(np.int32(index))

        def step(state: Any, batch: Any, which: Any = which) -> metrics.Evaluation:
            return mapped_step(state, batch, which)

        measured = evaluate(step, replicated, backend=backend, **data)
        of_sizes |= {f"{name}_{size}": measured[name] for name in ("accuracy", "loss")}
    return of_sizes | measured


def evaluate_tasks(
    mapped_step: Callable[[Any, Any], metrics.Evaluation],
    replicated: Any,
    split: several.Splits,
    task: several.Tasks,
    backend: parallel.Backend,
) -> dict[str, float]:
    """`evaluate` of each of several tasks, by one program each: `accuracy_digits` and so on.

    What has no task in its name is of all of them: the mean accuracy, the weighted sum of the
    losses and the number of examples. For the arguments see `evaluate`.
    """
    of_tasks: dict[str, float] = {}
    whole = dict.fromkeys(("loss", "accuracy", "examples"), 0.0)
    for name, network in task.networks.items():

        def step(state: Any, batch: Any, name: str = name) -> metrics.Evaluation:
            return mapped_step(state, {**task.joined({name: batch}), "mask": batch["mask"]})

        data = (split.by_name[name], network.dataset, network.config.data)
        measured = evaluate(step, replicated, *data, backend, network.task)
        of_tasks |= {f"{key}_{name}": value for key, value in measured.items()}
        whole["loss"] += network.weight * measured["loss"]
        whole["accuracy"] += measured["accuracy"] / len(task.networks)
        whole["examples"] += measured["examples"]
    return of_tasks | whole


@functools.lru_cache(maxsize=2)
def mapped_eval_step(
    model: nn.Module, method: Method, task: tasks.Task = tasks.DEFAULT
) -> Callable[[Any, Any], metrics.Evaluation]:
    """The compiled `eval_step` of a model; compiled once for all variables of its method."""
    step = functools.partial(eval_step, model=model, method=method, task=task)
    return parallel.backend().map_replicas(step, donate_state=False)


def evaluate_variables(
    model: nn.Module,
    method: Method,
    variables: Variables,
    model_state: ModelState,
    config: DataConfig,
    task: tasks.Task = tasks.DEFAULT,
) -> dict[str, float]:
    """`evaluate` of variables, such as an artifact's, on the evaluation split of a dataset."""
    dataset = task.describe(config)
    split = task.load(dataset, config.eval_split, config)
    backend = parallel.backend()
    replicated = backend.replicate((variables, model_state))
    mapped_step = mapped_eval_step(model, method, task)
    return evaluate(mapped_step, replicated, split, dataset, config, backend, task)
