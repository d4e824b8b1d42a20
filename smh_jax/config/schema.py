"""The typed configuration of a run.

Values are base values: learning rates per 256 examples, durations in epochs. Whatever follows from
several of them is derived when a run starts.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from smh_jax.config.names import check_choice

# Far beyond what is of use, and not beyond what a machine can count or hold.
MAX_IMAGE_SIZE = 4096
_MAX_BATCH_SIZE = 2**20
_MAX_EPOCHS = 1e6


def _at_least(field: str, value: float, bound: float) -> None:
    if not value >= bound:
        raise ValueError(f"{field}={value} must be at least {bound}")


def _at_most(field: str, value: float, bound: float) -> None:
    if not value <= bound:
        raise ValueError(f"{field}={value} must be at most {bound}")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The base model: a name of `smh_jax.models.names()` and that model's options."""

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """How its weights are generated: a name of `smh_jax.methods.names()` and that method's options.

    Attributes:
        name: of the method.
        hashed: which tensors are generated: 'all', 'conv', 'kernels' or a regular expression.
        target_size: upper bound on all trainable variables; None for 'dense'.
        options: of the method.
        target_bytes: of the exported file, in place of `target_size`: as many variables as fit at
            `pool_precision`, which is then 'coded:0.25' in place of
            'float32'.
    """

    name: str
    hashed: str = "all"
    target_size: int | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    target_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The dataset and how it is read.

    Attributes:
        name: of the dataset: any that classifies images of tensorflow-datasets' catalogue, or
            'folder:/path', a folder of images with one subfolder for each class; of task
            'next_token', 'python_sources', 'python_help', any of the catalogue with texts, or
            'tokens:/path', a folder of tokens.
        data_dir: where tensorflow-datasets keeps it; None for that library's default.
        train_split, eval_split: in tensorflow-datasets' notation, such as 'train[:90%]'; of
            imagenet2012 also 'minival', 10,000 training images to choose settings by, and
            'minitrain', the others.
        image_size: height and width to which images are resized; None keeps them (imagenet2012,
            whose images differ in size: 224).
        preprocessing: 'plain' (the whole image, or its centered square), 'resnet' or 'inception',
            the two families of random crops, flips and colors for images of many sizes.
        transform: 'none', or a copy of the dataset all of whose images are 'inverted' (dark for
            bright), 'rotated' by a quarter turn to the left, or 'permuted' (their pixels, in one
            order); a model of it takes such images.
        augmentation: of training images: 'none'; with 'plain' also 'crop' (pad an eighth, random
            crop) and 'crop_flip'; for imagenet2012 also 'autoaugment_v0' and 'randaugment'.
        randaugment_layers, randaugment_magnitude: of 'randaugment': operations on each image, and
            their strength, 10 being that of AutoAugment's largest.
        batch_size: examples per step, over all devices of all hosts.
        eval_batch_size: the same for evaluation.
        image_dtype: 'float32' or 'bfloat16', in which images are handed to the devices.
        context_length: of texts: tokens that a model sees at once, such as characters.
        skip_corrupt: tolerates an image file that cannot be decoded: training takes the next
            example in its place, evaluation does not count it. Otherwise that is an error.
    """

    name: str
    data_dir: str | None = None
    train_split: str = "train"
    eval_split: str = "test"
    image_size: int | None = None
    preprocessing: str = "plain"
    transform: str = "none"
    augmentation: str = "none"
    randaugment_layers: int = 2
    randaugment_magnitude: float = 9.0
    batch_size: int = 128
    eval_batch_size: int = 500
    image_dtype: str = "float32"
    skip_corrupt: bool = False
    context_length: int = 256

    def __post_init__(self) -> None:
        check_choice("data.preprocessing", self.preprocessing, ("plain", "resnet", "inception"))
        transforms = ("none", "inverted", "rotated", "permuted")
        check_choice("data.transform", self.transform, transforms)
        augmentations = ("none", "crop", "crop_flip", "autoaugment_v0", "randaugment")
        check_choice("data.augmentation", self.augmentation, augmentations)
        if self.preprocessing != "plain" and self.augmentation in ("crop", "crop_flip"):
            raise ValueError(
                f"data.augmentation={self.augmentation!r} goes with data.preprocessing='plain'; "
                f"{self.preprocessing!r} crops and flips already: use 'none', 'autoaugment_v0' "
                "or 'randaugment'"
            )
        check_choice("data.image_dtype", self.image_dtype, ("float32", "bfloat16"))
        _at_least("data.randaugment_magnitude", self.randaugment_magnitude, 0)
        for field in ("randaugment_layers", "batch_size", "eval_batch_size", "context_length"):
            _at_least(f"data.{field}", getattr(self, field), 1)
        for field in ("batch_size", "eval_batch_size"):
            _at_most(f"data.{field}", getattr(self, field), _MAX_BATCH_SIZE)
        if self.image_size is not None:
            _at_least("data.image_size", self.image_size, 1)
            _at_most("data.image_size", self.image_size, MAX_IMAGE_SIZE)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer, its schedule and the loss's regularisation.

    Attributes:
        name: 'sgd', 'momentum', 'nesterov', 'adam', 'adamw' or 'rmsprop' (TensorFlow 1's).
        learning_rate: the peak, per 256 examples of the batch.
        momentum: of 'momentum', 'nesterov' and 'rmsprop'.
        beta2: decay of the mean of squares of 'adam' and 'adamw'; that of the mean is 0.9.
        rms_decay, epsilon: of 'rmsprop': of its mean of squares, and what is added under the root.
        schedule: after the warm-up, of its own length or (one-cycle) with its own warm-up:
            'constant', 'cosine' (to 0), 'piecewise' (times `decay_factor` at each of
            `decay_epochs`), 'staircase' (times `decay_factor` every `decay_every_epochs`) or
            'one_cycle'.
        warmup_epochs: linear rise from 0 to the peak; not for 'one_cycle'.
        decay_epochs, decay_every_epochs, decay_factor: of 'piecewise' and 'staircase'; epochs
            count from the start of training, warm-up included.
        weight_decay: factor of half the squared norm that is added to the loss; of 'adamw', whose
            decay is decoupled, its gradient times the learning rate is taken off in each step.
        weight_decay_on: 'variables' (pools and stored tensors) or 'weights' (generated and stored
            tensors, of which the pools get the gradient); never scales or batch norm.
        weight_decay_exclude: regular expression of names of tensors that are not decayed, besides
            batch norm's; '' excludes no more.
        pool_rate, scale_rate: multiply the learning rate of the pools and of the scales.
        clip_norm: largest global norm of the gradient of all variables; None does not clip.
        label_smoothing: share of the target spread evenly over all classes.
        ema_decay: of the exponential moving average of variables and batch statistics, with which
            the run is evaluated; at step t at most (1 + t) / (10 + t). None evaluates the last
            values.
        accumulate_steps: microbatches into which each device cuts its share of a batch and
            computes one by one, for batches that do not fit its memory. The result is that of
            so many times the devices: batch norm sees one microbatch at a time.
    """

    name: str = "momentum"
    learning_rate: float = 0.1
    momentum: float = 0.9
    beta2: float = 0.999
    rms_decay: float = 0.9
    epsilon: float = 1e-3
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    decay_epochs: tuple[float, ...] = ()
    decay_every_epochs: float = 0.0
    decay_factor: float = 0.1
    weight_decay: float = 0.0
    weight_decay_on: str = "variables"
    weight_decay_exclude: str = ""
    pool_rate: float = 1.0
    scale_rate: float = 1.0
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    ema_decay: float | None = None
    accumulate_steps: int = 1

    def __post_init__(self) -> None:
        names = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop")
        check_choice("optimizer.name", self.name, names)
        schedules = ("constant", "cosine", "piecewise", "staircase", "one_cycle")
        check_choice("optimizer.schedule", self.schedule, schedules)
        check_choice("optimizer.weight_decay_on", self.weight_decay_on, ("variables", "weights"))
        nonnegative = ("learning_rate", "warmup_epochs", "decay_every_epochs", "decay_factor")
        for field in (*nonnegative, "weight_decay", "pool_rate", "scale_rate"):
            _at_least(f"optimizer.{field}", getattr(self, field), 0)
        _at_least("optimizer.accumulate_steps", self.accumulate_steps, 1)
        for field in ("momentum", "beta2", "rms_decay", "label_smoothing"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"optimizer.{field}={getattr(self, field)} must be in [0, 1)")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"optimizer.ema_decay={self.ema_decay} must be in (0, 1), or None")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"optimizer.clip_norm={self.clip_norm} must be above 0, or None")
        if self.name == "rmsprop" and not self.epsilon > 0:
            raise ValueError(f"optimizer.epsilon={self.epsilon} must be above 0 for 'rmsprop'")
        if self.schedule == "piecewise" and not self.decay_epochs:
            raise ValueError("optimizer.decay_epochs=() must name epochs for schedule 'piecewise'")
        if any(a >= b for a, b in itertools.pairwise((0.0, *self.decay_epochs))):
            raise ValueError(f"optimizer.decay_epochs={self.decay_epochs} must rise from above 0")
        if self.schedule == "staircase" and not self.decay_every_epochs > 0:
            raise ValueError(
                f"optimizer.decay_every_epochs={self.decay_every_epochs} must be above 0 for "
                "schedule 'staircase'"
            )
        if self.schedule == "one_cycle" and self.warmup_epochs:
            raise ValueError(
                f"optimizer.warmup_epochs={self.warmup_epochs} must be 0 for schedule "
                "'one_cycle', which has its own warm-up"
            )


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """Learning from another run's logits besides the labels.

    Attributes:
        teacher: folder of a run on the same images, whose logits are learned from; None for none.
        temperature: by which the logits of both are divided.
        weight: share of the teacher in the loss; the rest is that of the labels.
    """

    teacher: str | None = None
    temperature: float = 4.0
    weight: float = 0.9

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"distillation.temperature={self.temperature} must be above 0")
        if not 0 < self.weight <= 1:
            raise ValueError(f"distillation.weight={self.weight} must be in (0, 1]")


@dataclasses.dataclass(frozen=True)
class PullConfig:
    """Learning-compression: dense weights that are drawn to those of a method; `training/pull.py`.

    Attributes:
        towards: that method; 'dense' for none.
        first, last: s in the first and in the last step, between which it grows geometrically:
            after each step every weight w becomes (w + s g) / (1 + s), where g is the one that the
            method generates.
        refits, refit_rate: steps of Adam, and their learning rate, by which the method's variables
            follow the weights after each step of training.
    """

    towards: MethodConfig = dataclasses.field(default_factory=lambda: MethodConfig("dense"))
    first: float = 0.1
    last: float = 1.0
    refits: int = 2
    refit_rate: float = 0.01

    def __post_init__(self) -> None:
        for field in ("first", "refit_rate"):
            if not getattr(self, field) > 0:
                raise ValueError(f"pull.{field}={getattr(self, field)} must be above 0")
        if not self.last >= self.first:
            raise ValueError(f"pull.last={self.last} must be at least pull.first={self.first}")
        _at_least("pull.refits", self.refits, 1)
        _at_most("pull.refits", self.refits, 1000)


@dataclasses.dataclass(frozen=True)
class ElasticConfig:
    """One run that trains several sizes of a model at once; `training/elastic.py`.

    Attributes:
        sizes: the smaller ones, as target sizes or, below 1, as shares of all weights. The largest
            is `method.target_size`. () trains that alone.
        drawn: how many of the sizes between the smallest and the largest are trained in each step,
            besides these two; all, if it is more than there are.
    """

    sizes: tuple[float, ...] = ()
    drawn: int = 1

    def __post_init__(self) -> None:
        for size in self.sizes:
            if not size > 0 or (size >= 1 and size % 1):
                raise ValueError(
                    f"elastic.sizes={self.sizes}: {size:g} must be a whole number of variables, "
                    "or a share of all weights below 1"
                )
        _at_least("elastic.drawn", self.drawn, 0)


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """How a step runs on many devices.

    Attributes:
        backend: 'pmap' is `jax.pmap`; 'shard_map' is `jax.jit` of `jax.shard_map` over a mesh. They
            compute the same.
        model_devices: of 'shard_map': neighboring devices of one process that share a replica, so
            that each holds a part of the variables and of what the optimizer keeps of them, and
            weights exist only while a layer needs them. 1 gives every device a replica of its own.
    """

    backend: str = "pmap"
    model_devices: int = 1

    def __post_init__(self) -> None:
        check_choice("parallel.backend", self.backend, ("pmap", "shard_map"))
        _at_least("parallel.model_devices", self.model_devices, 1)
        if self.model_devices > 1 and self.backend != "shard_map":
            raise ValueError(
                f"parallel.backend={self.backend!r} must be 'shard_map' with "
                f"parallel.model_devices={self.model_devices}"
            )


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run.

    Attributes:
        task: what kind of thing is learned: 'image_classification' or 'next_token' (of texts).
        tasks: several networks that share the method's pools and are trained together, as
            `smh_jax.config.tasks` reads them: "name: field=value, ...; name: ...". '' trains one.
        pool_from: folder of a run of several tasks, to whose pools those of `tasks` are added: what
            was there stays as it is. None trains pools of their own.
        pool: of `pool_from`: 'frozen' trains the new tasks' scales and stored tensors alone,
            'grown' also as many new hash pairs as fit `method.target_size`.
        model, method, data, optimizer: see there.
        distillation, pull, elastic, parallel: see there.
        init_from: folder of a run of the same model and method, such as `smh_jax.convert` makes,
            whose variables and batch statistics are the first ones; None draws them.
        frozen_from: folder of a trained run of the same model, whose weights are frozen: what the
            method makes is added to them (an adapter). None trains the weights themselves.
        pool_precision: 'float32', 'bfloat16', 'int8', 'int4', 'int3', 'int2', 'ternary' or
            'coded:0.25' (steps of a quarter of a pool's root mean square), to which the pools, of
            'dense' the kernels, are rounded whenever weights are generated from them, as an export
            at this precision will round them (quantization-aware training). The gradient goes
            straight through to the pools, which are kept as they are.
        rate_weight: of 'coded': in the loss, of the mean bits of an element of the coded pools.
        pruning: share of each pool, of 'dense' of each kernel, that becomes 0 in the first half of
            training, the smallest magnitudes first; what is pruned may return in any step.
        seed: of initial values, order of examples, augmentation and dropout.
        epochs: passes over the training split; steps follow from it.
        batch_norm: 'local' normalises with the statistics of each device's share of the batch,
            'synced' with those of the whole batch, 'grouped' with those of the shares of
            `batch_norm_group_size` devices.
        batch_norm_group_size: of 'grouped': how many devices, neighbors, share statistics.
        log_every_steps: how often metrics are logged.
        eval_every_epochs: how often the evaluation split is measured; always at the end.
        checkpoint_every_steps: how often the run is saved; always at the end.
        keep_checkpoints: how many of the latest checkpoints stay.
    """

    model: ModelConfig
    method: MethodConfig
    data: DataConfig
    optimizer: OptimizerConfig
    distillation: DistillationConfig = dataclasses.field(default_factory=DistillationConfig)
    pull: PullConfig = dataclasses.field(default_factory=PullConfig)
    elastic: ElasticConfig = dataclasses.field(default_factory=ElasticConfig)
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)
    task: str = "image_classification"
    tasks: str = ""
    pool_from: str | None = None
    pool: str = "frozen"
    init_from: str | None = None
    frozen_from: str | None = None
    pool_precision: str = "float32"
    rate_weight: float = 0.0
    pruning: float = 0.0
    seed: int = 0
    epochs: float = 1.0
    batch_norm: str = "local"
    batch_norm_group_size: int = 1
    log_every_steps: int = 50
    eval_every_epochs: float = 10.0
    checkpoint_every_steps: int = 500
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        check_choice("batch_norm", self.batch_norm, ("local", "synced", "grouped"))
        _at_least("batch_norm_group_size", self.batch_norm_group_size, 1)
        for field in ("log_every_steps", "checkpoint_every_steps", "keep_checkpoints"):
            _at_least(field, getattr(self, field), 1)
        for field in ("epochs", "eval_every_epochs"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field}={getattr(self, field)} must be above 0")
            _at_most(field, getattr(self, field), _MAX_EPOCHS)
        if self.pull.towards.name != "dense" and self.method.name != "dense":
            raise ValueError(
                f"method.name={self.method.name!r} must be 'dense' with "
                f"pull.towards.name={self.pull.towards.name!r}: dense weights are pulled"
            )
        if self.init_from is not None and self.frozen_from is not None:
            raise ValueError(
                f"init_from={self.init_from!r} must be None with frozen_from={self.frozen_from!r}: "
                "what is added to frozen weights starts at 0"
            )
        if self.pull.towards.name != "dense" and self.frozen_from is not None:
            raise ValueError(
                f"frozen_from={self.frozen_from!r} must be None with "
                f"pull.towards.name={self.pull.towards.name!r}: frozen weights cannot be pulled"
            )
        if not 0 <= self.pruning < 1:
            raise ValueError(f"pruning={self.pruning} must be at least 0 and below 1")
        if self.elastic.sizes:
            self._check_elastic()
        check_choice("pool", self.pool, ("frozen", "grown"))
        if self.tasks:
            self._check_tasks()
        elif self.pool_from is not None:
            raise ValueError(f"tasks='' must name what is added to pool_from={self.pool_from!r}")
        if self.parallel.model_devices > 1:
            self._check_model_devices()
        _at_least("seed", self.seed, 0)
        # JAX makes the same key of a seed and of its low 32 bits.
        _at_most("seed", self.seed, 2**32 - 1)

    def on_one_device(self) -> "Config":
        """The same less what concerns several devices."""
        parallel = ParallelConfig()
        return dataclasses.replace(
            self, parallel=parallel, batch_norm="local", batch_norm_group_size=1
        )

    def _check_elastic(self) -> None:
        """Raises ValueError for what an elastic run does not do."""
        sizes = f"elastic.sizes={self.elastic.sizes}"
        if self.method.name != "smh":
            raise ValueError(f"method.name={self.method.name!r} must be 'smh' with {sizes}")
        # Rounding and pruning are of whole pools, and those of a smaller size are other pools.
        without = {
            "method.target_bytes": (self.method.target_bytes, None),
            "pool_precision": (self.pool_precision, "float32"),
            "pruning": (self.pruning, 0.0),
            "init_from": (self.init_from, None),
            "frozen_from": (self.frozen_from, None),
        }
        _check_values(without, sizes)

    def _check_tasks(self) -> None:
        """Raises ValueError for what a run of several tasks does not do."""
        tasks = f"tasks={self.tasks!r}"
        if self.method.name != "smh":
            raise ValueError(f"method.name={self.method.name!r} must be 'smh' with {tasks}")
        without = {
            "elastic.sizes": (self.elastic.sizes, ()),
            "distillation.teacher": (self.distillation.teacher, None),
            "method.target_bytes": (self.method.target_bytes, None),
            "parallel.model_devices": (self.parallel.model_devices, 1),
            "frozen_from": (self.frozen_from, None),
        }
        _check_values(without, tasks)
        if self.pool_from is not None:
            # They would change all of the pools, of which a part is frozen.
            without = {
                "init_from": (self.init_from, None),
                "pool_precision": (self.pool_precision, "float32"),
                "pruning": (self.pruning, 0.0),
            }
            _check_values(without, f"pool_from={self.pool_from!r}")

    def _check_model_devices(self) -> None:
        """Raises ValueError for what would make all weights at once."""
        without = {
            "elastic.sizes": (self.elastic.sizes, ()),
            "pull.towards.name": (self.pull.towards.name, "dense"),
            "frozen_from": (self.frozen_from, None),
        }
        _check_values(without, f"parallel.model_devices={self.parallel.model_devices}")


def _check_values(expected: Mapping[str, tuple[Any, Any]], reason: str) -> None:
    """Raises ValueError for a field that does not have the one value that goes with something."""
    for field, (value, wanted) in expected.items():
        if value != wanted:
            raise ValueError(f"{field}={value!r} must be {wanted!r} with {reason}")
