"""What a run costs before it is trained: steps, and hours on the device that it is meant for."""

import dataclasses
import functools
from collections.abc import Iterable

import jax

from experiments.job import Job
from experiments.row import TpuSlice
from smh_jax import models
from smh_jax.config import Config
from smh_jax.config import tasks as task_configs
from smh_jax.training import tasks

# Training examples; a split that takes a part of them costs less than is said here.
NUM_EXAMPLES = {
    "cifar10": 50_000, "cifar100": 50_000, "digits": 1_437, "fashion_mnist": 60_000,
    "imagenet2012": 1_281_167,
}  # fmt: skip

# Multiply-adds of a forward pass per second of training that a device gets through, forward and
# backward pass together. From the paper's Table 1: 6,060 images per second of EfficientNet-B2 (1.0
# billion multiply-adds) on a slice of 16 chips.
_TPU_V3_CHIP = 1.0e9 * 6060 / 16
# From CIFAR ResNet-8 at 14 x 14 pixels (2.5 million multiply-adds), 1,550 images per second on one
# core of a server processor.
_CPU_CORE = 2.5e6 * 1550
_CONVERSION_HOURS = 0.01
# Seconds of a run besides its steps: imports, compilation, the first and the last evaluation,
# checkpoints. Measured on the core: a run of 47 steps of ResNet-8 with SMH takes 47 seconds of
# processor time, the steps 4 of them. Of a TPU stated: its compiler takes 14 to 395 seconds
# (benchmarks/results/tpu_compile.md).
_START_UP = {"CPU core": 43.0, "TPU v3 chip": 180.0}


@dataclasses.dataclass(frozen=True)
class Cost:
    """An estimate of training on one device ('TPU v3 chip' or 'CPU core'), for planning only.

    `device_hours` are those of the start-up and the steps. The slice is the one that works on it as
    a whole, if there is one.
    """

    steps: int
    device_hours: float
    device: str
    start_up_hours: float = 0.0
    tpu_slice: TpuSlice | None = None

    def __str__(self) -> str:
        time, start_up = _time(self.device_hours), _time(self.start_up_hours)
        part = f", start-up included ({start_up})" if self.start_up_hours else ""
        if self.tpu_slice:
            days = self.device_hours / 24 / self.tpu_slice.num_chips
            part += f": {days:.1f} days of a slice of {self.tpu_slice.topology} chips"
        return f"{self.steps} steps, about {time} of one {self.device}{part}"

    def price(self, per_chip_hour: float) -> float:
        """In the currency of the price of an hour of a TPU chip; 0 of other devices."""
        return per_chip_hour * self.device_hours if "TPU" in self.device else 0.0


def _time(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def totals(costs: Iterable[Cost]) -> list[Cost]:
    """The sums by device, and by slice where there is one."""
    sums: dict[tuple[str, str], Cost] = {}
    for cost in costs:
        kind = (cost.device, str(cost.tpu_slice))
        total = sums.get(kind, Cost(0, 0.0, cost.device, tpu_slice=cost.tpu_slice))
        sums[kind] = dataclasses.replace(
            total,
            steps=total.steps + cost.steps,
            device_hours=total.device_hours + cost.device_hours,
            start_up_hours=total.start_up_hours + cost.start_up_hours,
        )
    return [sums[kind] for kind in sorted(sums)]


def estimate(job: Job) -> Cost:
    """The cost of a whole run."""
    if job.row.convert_from:
        return Cost(steps=0, device_hours=_CONVERSION_HOURS, device="CPU core")
    config = job.config
    several = task_configs.read(config) if config.tasks else {}
    trained = [task.config for task in several.values()] or [config]
    # An epoch is one pass over the largest dataset.
    examples = config.epochs * max(map(_num_examples, trained))
    on_tpu = "TPU" in job.row.resources or job.row.tpu_slice is not None
    seconds = examples * sum(map(_multiply_adds_of, trained))
    # An elastic step trains several sizes.
    seconds *= min(2 + config.elastic.drawn, 1 + len(config.elastic.sizes))
    seconds /= _TPU_V3_CHIP if on_tpu else _CPU_CORE
    steps = max(1, round(examples / config.data.batch_size))
    device = "TPU v3 chip" if on_tpu else "CPU core"
    tpu_slice = job.row.tpu_slice
    # All chips of a slice wait.
    start_up = _START_UP[device] * (tpu_slice.num_chips if tpu_slice else 1)
    return Cost(steps, (seconds + start_up) / 3600, device, start_up / 3600, tpu_slice)


def _num_examples(config: Config) -> int:
    if config.data.name in NUM_EXAMPLES:
        return NUM_EXAMPLES[config.data.name]
    task = tasks.of_name(config.task)
    info = task.describe(config.data)
    return task.load(info, config.data.train_split, config.data).num_examples


def _multiply_adds_of(config: Config) -> int:
    """Of one example of a configuration."""
    task = tasks.of_name(config.task)
    info = task.describe(config.data)
    options = tuple(sorted(config.model.options.items()))
    return _multiply_adds(config.model.name, options, info.num_classes, task.example(info))


@functools.cache
def _multiply_adds(
    name: str, options: tuple, num_classes: int, example: jax.ShapeDtypeStruct
) -> int:
    model = models.create(name, num_classes=num_classes, **dict(options))
    return models.count_multiply_adds(model, example)
