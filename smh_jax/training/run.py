"""From a configuration to the objects of a run; every mistake comes to light on the way."""

import dataclasses
import functools

import flax.linen as nn
import jax

from smh_jax import methods, models
from smh_jax.config import Config, MethodConfig
from smh_jax.manifest import Manifest
from smh_jax.methods.file_size import expected_bytes
from smh_jax.training import adapted, byte_budget, forward, losses, parallel, tasks


@dataclasses.dataclass(frozen=True)
class Run:
    """What a configuration stands for.

    Attributes:
        config: the configuration.
        task: what is learned.
        dataset: what is known of the dataset before it is read.
        model: the base model; with frozen weights, if it is adapted (`config.frozen_from`).
        method: how its weights are generated; its `manifest` says which of them.
        pull: the method to whose weights these are drawn (`config.pull`), or None.
    """

    config: Config
    task: tasks.Task
    dataset: tasks.Dataset
    model: nn.Module | adapted.Adapted
    method: methods.Method
    pull: methods.Method | None = None

    @classmethod
    def from_config(
        cls, config: Config, manifest: Manifest | None = None, num_devices: int | None = None
    ) -> "Run":
        """The run; no weights are allocated, beyond measuring their initializers, and no data read.

        Those of a dataset that is described for the first time are, see `smh_jax.data.describe`.

        Args:
            config: the configuration.
            manifest: of the same model and hashed set, to be used in place of a new measurement.
            num_devices: on which it will run; None for those of this program.

        Raises:
            ValueError: for an unknown name, an impossible target size, an expression that matches
                nothing and so on; the message names the field, the value and what would be right.
        """
        num_devices = num_devices or jax.device_count()
        num_replicas = _num_replicas(config, num_devices)
        _check_batch_size(config, num_devices)
        task = tasks.of_name(config.task)
        _check_takes(config, task)
        dataset = task.describe(config.data)
        example = task.example(dataset)
        axis_name, axis_groups = _batch_norm_axis(config, num_replicas)
        model = models.create(
            config.model.name,
            num_classes=dataset.num_classes,
            axis_name=axis_name,
            axis_groups=axis_groups,
            **config.model.options,
        )
        if config.frozen_from is not None:
            model = adapted.Adapted(model)
        manifest = _manifest_of(model, example, config, manifest)
        method = _method(config, manifest, model, example)
        # Raises where the expression excludes nothing.
        optimizer = config.optimizer
        losses.decayed_tensors(
            method.manifest, optimizer.weight_decay_on, optimizer.weight_decay_exclude
        )
        pull = _pull(config.pull.towards, method.manifest)
        return cls(config, task, dataset, model, method, pull)

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of the inputs of a batch of one example."""
        return self.task.example(self.dataset)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Target sizes of an elastic run, rising; () for any other."""
        return self.method.sizes if isinstance(self.method, methods.Elastic) else ()

    @property
    def precision(self) -> str:
        """Of the pools, for which the run is trained."""
        return byte_budget.precision_of(self.config)

    def expected_bytes(self, precision: str) -> int:
        """Of the exported file, at most but for a few."""
        state = _state_shapes(self.local_model, self.example)
        return expected_bytes(self.method, state, precision, self.config.pruning)

    @property
    def local_model(self) -> nn.Module:
        """The model outside of a mapped step, where no axis has a name; of the same weights."""
        return self.model.clone(axis_name=None)


def _method(
    config: Config, manifest: Manifest, model: nn.Module, example: jax.ShapeDtypeStruct
) -> methods.Method:
    """The method of a run, of the size that was asked for in variables or in bytes."""
    create = functools.partial(
        methods.create, config.method.name, manifest, **config.method.options
    )
    precision = byte_budget.precision_of(config)
    if config.method.target_bytes is None:
        method = create(target_size=config.method.target_size)
    elif config.method.name == "dense":
        raise ValueError(
            f"method.target_bytes={config.method.target_bytes} must be None for method 'dense', "
            "whose variables are given; choose its pool_precision"
        )
    else:
        state = _state_shapes(model.clone(axis_name=None), example)
        method = byte_budget.fitting(
            lambda size: create(target_size=size),
            manifest.num_weights,
            state,
            config.method.target_bytes,
            precision,
            config.pruning,
        )
    if config.elastic.sizes:
        method = methods.elastic(method, config.elastic.sizes)
    # What is pruned is rounded, and not what is rounded pruned: equal magnitudes are not ranked.
    return methods.pruned(methods.rounded(method, precision, config.rate_weight), config.pruning)


def _state_shapes(model: nn.Module, example: jax.ShapeDtypeStruct) -> forward.ModelState:
    """Shapes of a model's collections but its params."""
    init = functools.partial(forward.initial_collections, model, example)
    return jax.eval_shape(init, jax.random.key(0))[1]


def _manifest_of(
    model: nn.Module, example: jax.ShapeDtypeStruct, config: Config, known: Manifest | None
) -> Manifest:
    """The model's manifest: the known one, if it is of this model, or a measured one."""
    # The axis has its name inside of a step only.
    traced = adapted.manifest_of(
        model.clone(axis_name=None),
        example,
        hashed=config.method.hashed,
        measure=known is None,
    )
    if known is None:
        return traced
    if not known.same_tensors(traced):
        raise ValueError(
            f"the manifest given for model.name={config.model.name!r} describes other tensors "
            "than the model has; it is of another version of the model"
        )
    return known


def _pull(towards: MethodConfig, manifest: Manifest) -> methods.Method | None:
    """The method to whose weights those of a manifest are drawn, or None."""
    if towards.name == "dense":
        return None
    if towards.target_bytes is not None:
        raise ValueError(
            f"pull.towards.target_bytes={towards.target_bytes} must be None: give a target_size"
        )
    try:
        method = methods.create(
            towards.name,
            manifest.with_hashed(towards.hashed),
            target_size=towards.target_size,
            **towards.options,
        )
    except ValueError as error:
        raise ValueError(f"pull.towards: {error}") from error
    if not method.can_fit:
        raise ValueError(
            f"pull.towards.name={towards.name!r} cannot be fitted to given weights; 'smh' can"
        )
    return method


def _num_replicas(config: Config, num_devices: int) -> int:
    size = config.parallel.model_devices
    return len(parallel.replica_groups("parallel.model_devices", size, num_devices))


def _batch_norm_axis(
    config: Config, num_replicas: int
) -> tuple[str | None, tuple[tuple[int, ...], ...] | None]:
    """The mapped axis over which batch norm averages its statistics, and its groups."""
    if config.batch_norm == "local":
        return None, None
    if config.batch_norm == "synced":
        return parallel.AXIS_NAME, None
    size = config.batch_norm_group_size
    return parallel.AXIS_NAME, parallel.replica_groups("batch_norm_group_size", size, num_replicas)


def _check_takes(config: Config, task: tasks.Task) -> None:
    takes = models.takes(config.model.name)
    if takes != task.takes:
        fitting = (name for name in models.names() if models.takes(name) == task.takes)
        raise ValueError(
            f"model.name={config.model.name!r} takes {takes}, and task={config.task!r} gives "
            f"{task.takes}: choose one of {', '.join(fitting)}"
        )


def _check_batch_size(config: Config, num_devices: int) -> None:
    microbatches = config.optimizer.accumulate_steps
    divisor = f"{num_devices} devices"
    if microbatches > 1:
        divisor += f" times optimizer.accumulate_steps={microbatches}"
    parallel.check_batch_size(
        "data.batch_size", config.data.batch_size, num_devices * microbatches, divisor
    )
