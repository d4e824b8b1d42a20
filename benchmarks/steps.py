"""Training steps as the trainer makes them, on random images."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from benchmarks import timing
from smh_jax import Manifest, methods, models
from smh_jax.config import OptimizerConfig
from smh_jax.training import optim, parallel
from smh_jax.training.step import TrainState, init_state, train_step

OPTIMIZER = OptimizerConfig(name="momentum", learning_rate=1e-3, weight_decay=1e-4)


def classes_of(model_name: str) -> int:
    """10 for the nets of CIFAR and 1000 for those of ImageNet."""
    return 10 if model_name.startswith("cifar") else 1000


def create(model_name: str, side: int, channels: int = 3) -> tuple[nn.Module, Manifest]:
    """A model and the manifest of its weights, all but batch norm hashed."""
    model = models.create(model_name, num_classes=classes_of(model_name))
    return model, Manifest.from_model(model, (1, side, side, channels))


def initial_state_and_step(
    model: nn.Module, method: methods.Method, side: int, channels: int = 3
) -> tuple[TrainState, Any]:
    """The first state, unreplicated, and the mapped step, which takes the state's memory."""
    optimizer = optim.create(OPTIMIZER, lambda _: OPTIMIZER.learning_rate)
    state = init_state(model, method, optimizer, (1, side, side, channels), seed=0)
    step = functools.partial(
        train_step, model=model, method=method, optimizer=optimizer, config=OPTIMIZER, seed=0
    )
    return state, parallel.backend().map_replicas(step, donate_state=True)


def batch_of(model_name: str, side: int, size: int) -> dict[str, jax.Array]:
    """Random images [size, side, side, 3] and labels, shared out among the devices."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, side, side, 3)).astype(np.float32)
    labels = rng.integers(classes_of(model_name), size=size).astype(np.int32)
    (batch,) = parallel.backend().to_devices([{"image": images, "label": labels}])
    return batch


class Training:
    """A training that goes one step further at each call; `compiled` is the program of a step."""

    def __init__(self, state: TrainState, step: Any, batch: dict[str, jax.Array]):
        self._state, self._batch = parallel.backend().replicate(state), batch
        self.compiled = step.lower(self._state, self._batch).compile()

    def __call__(self) -> jax.Array:
        """Takes a step and returns a number that is there when it is done."""
        self._state, measured = self.compiled(self._state, self._batch)
        return measured.loss.total


def time_steps(
    model_name: str,
    model: nn.Module,
    compared: Mapping[str, methods.Method],
    side: int,
    batch_size: int,
    repeats: int,
) -> tuple[dict[str, Training], dict[str, list[float]]]:
    """A training by each method, and the seconds of interleaved steps."""
    batch = batch_of(model_name, side, batch_size)
    trainings = {
        label: Training(*initial_state_and_step(model, method, side), batch)
        for label, method in compared.items()
    }
    return trainings, timing.interleaved(trainings, repeats)


def tree_bytes(tree: Any) -> int:
    """Of all leaves, arrays or their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
