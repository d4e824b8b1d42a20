"""Training steps as the trainer makes them, on random images."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
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
    step = parallel.map_replicas(
        functools.partial(
            train_step, model=model, method=method, optimizer=optimizer, config=OPTIMIZER, seed=0
        ),
        donate_state=True,
    )
    return state, step


def batch_of(model_name: str, side: int, size: int) -> dict[str, np.ndarray]:
    """Random images [size, side, side, 3] and labels."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(size, side, side, 3)).astype(np.float32),
        "label": rng.integers(classes_of(model_name), size=size).astype(np.int32),
    }


class Training:
    """A training that goes one step further at each call.

    Attributes:
        compiled: the program of a step.
        seconds: of timed steps.
    """

    def __init__(self, state: TrainState, step: Any, batch: dict[str, Any]):
        """Compiles the step."""
        self._state = parallel.replicate(state)
        (self._batch,) = parallel.to_devices([batch])
        self.compiled = step.lower(self._state, self._batch).compile()
        self.seconds: list[float] = []

    def __call__(self) -> jax.Array:
        """Takes a step and returns a number that is there when it is done."""
        self._state, measured = self.compiled(self._state, self._batch)
        return measured.loss.total


def time_steps(
    model_name: str,
    model: nn.Module,
    methods_by_label: Mapping[str, methods.Method],
    side: int,
    batch_size: int,
    repeats: int,
) -> dict[str, Training]:
    """Trainings by each method, with the seconds of interleaved steps."""
    batch = batch_of(model_name, side, batch_size)
    trainings = {
        label: Training(*initial_state_and_step(model, method, side), batch)
        for label, method in methods_by_label.items()
    }
    for label, seconds in timing.interleaved(trainings, repeats).items():
        trainings[label].seconds = seconds
    return trainings


def tree_bytes(tree: Any) -> int:
    """Of all leaves, arrays or their shapes."""
    return sum(leaf.size * jnp.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))
