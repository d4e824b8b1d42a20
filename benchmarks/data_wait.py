"""The share of a training that waits for its data, with the trainer's own input and step."""

import itertools
import time

import jax
import numpy as np

from benchmarks import steps
from benchmarks.benchmark import Row
from smh_jax import data, methods
from smh_jax.data.catalogue import Normalization, Split
from smh_jax.training import parallel

# Steps before and in each timed round.
_WARM_UP, _ROUND = 3, 10


def measure(case: str, repeats: int) -> list[Row]:
    """Rows of one case, 'dataset:model:examples:side:channels:batch:augmentation:target_size'.

    The examples are random, of the dataset's shape and number. As the trainer does, the next batch
    is asked for while a step runs. Where the step is done by the time the batch is there, all of
    the time that it took counts as waiting, which is the most that it can be.
    """
    name, model_name, *numbers, augmentation, target_size = case.split(":")
    num_examples, side, channels, batch_size = map(int, numbers)
    num_steps = _WARM_UP + _ROUND * repeats
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(num_examples, side, side, channels), dtype=np.uint8)
    labels = rng.integers(10, size=num_examples).astype(np.int32)
    batches = data.train_batches(
        Split(images, labels),
        Normalization((0.5,) * channels, (0.25,) * channels),
        batch_size=batch_size,
        augmentation=augmentation,
        seed=0,
        first_step=0,
        last_step=2 * num_steps + 1,
    )
    arrivals = [time.perf_counter() for _ in itertools.islice(batches, num_steps)]
    alone = _ROUND * repeats * batch_size / (arrivals[-1] - arrivals[_WARM_UP - 1])
    model, manifest = steps.create(model_name, side, channels)
    method = methods.create("smh", manifest, target_size=int(target_size))
    state, step = steps.initial_state_and_step(model, method, side, channels)
    state = parallel.replicate(state)
    on_devices = parallel.to_devices(batches)
    batch, waited, marks = next(on_devices), [], []
    for _ in range(num_steps):
        state, measured = step(state, batch)
        asked = time.perf_counter()
        batch = next(on_devices)
        is_done = all(leaf.is_ready() for leaf in jax.tree.leaves(measured))
        waited.append(time.perf_counter() - asked if is_done else 0.0)
        jax.block_until_ready(measured)
        marks.append(time.perf_counter())
    seconds = np.diff(marks)[_WARM_UP:]
    return [
        {
            "dataset": name,
            "model": model_name,
            "batch_size": batch_size,
            "input_examples_per_second": alone,
            "step_examples_per_second": batch_size / float(np.median(seconds)),
            "share_waiting_percent": 100 * sum(waited[_WARM_UP + 1 :]) / sum(seconds),
        }
    ]
