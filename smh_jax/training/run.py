"""From a configuration to the objects of a run; every mistake comes to light on the way."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from smh_jax import methods, models
from smh_jax.config import Config, MethodConfig
from smh_jax.config import tasks as task_configs
from smh_jax.manifest import Manifest
from smh_jax.methods import shared
from smh_jax.methods.file_size import expected_bytes
from smh_jax.training import adapted, byte_budget, forward, losses, parallel, several, tasks
from smh_jax.training.workdir import Workdir


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
        source: the run to whose pools this one adds its tasks (`config.pool_from`), or None.
    """

    config: Config
    task: tasks.Task | several.Tasks
    dataset: tasks.Dataset
    model: nn.Module | adapted.Adapted | several.Models
    method: methods.Method
    pull: methods.Method | None = None
    source: "Run | None" = None

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
        batch_norm = _batch_norm_axis(config, num_replicas)
        measure = manifest is None
        source = None
        if config.tasks:
            task, dataset, model, traced = _of_tasks(config, batch_norm, measure)
        else:
            task, dataset, model = _network(config, batch_norm)
            if config.frozen_from is not None:
                model = adapted.Adapted(model)
            traced = _traced(model, task.example(dataset), config.method.hashed, measure)
        if config.pool_from is not None:
            source = _source(config, task)
        manifest = _manifest_of(traced, config, manifest)
        method = _method(config, manifest, model, task.example(dataset), source)
        # Raises where the expression excludes nothing.
        optimizer = config.optimizer
        losses.decayed_tensors(
            method.manifest, optimizer.weight_decay_on, optimizer.weight_decay_exclude
        )
        pull = _pull(config.pull.towards, method.manifest)
        return cls(config, task, dataset, model, method, pull, source)

    @classmethod
    def in_folder(cls, workdir: str | os.PathLike[str]) -> "Run":
        """What the configuration in a run's folder stands for, on one device.

        Raises:
            ValueError: if the folder holds no run.
        """
        config, manifest = Workdir(workdir).read()
        # Neither the devices nor how batch norm was averaged over them are of concern any more.
        return cls.from_config(config.on_one_device(), manifest, num_devices=1)

    @property
    def lineage(self) -> "tuple[Run, ...]":
        """This run after those to whose pools it adds its tasks, the first one first."""
        return (*(self.source.lineage if self.source else ()), self)

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of the inputs of a batch of one example."""
        return self.task.example(self.dataset)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Target sizes of an elastic run, rising; () for any other."""
        return self.method.sizes if isinstance(self.method, methods.Elastic) else ()

    @property
    def networks(self) -> Mapping[str, several.Network]:
        """Of a run of several tasks, by name; {} for any other."""
        return self.task.networks if isinstance(self.task, several.Tasks) else {}

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


def _network(
    config: Config, batch_norm: tuple[Any, Any]
) -> tuple[tasks.Task, tasks.Dataset, nn.Module]:
    """The task, its dataset and its base model, with the axis of batch norm and its groups."""
    task = tasks.of_name(config.task)
    _check_takes(config, task)
    dataset = task.describe(config.data)
    axis_name, axis_groups = batch_norm
    model = models.create(
        config.model.name,
        num_classes=dataset.num_classes,
        axis_name=axis_name,
        axis_groups=axis_groups,
        **config.model.options,
    )
    return task, dataset, model


def _of_tasks(
    config: Config, batch_norm: tuple[Any, Any], measure: bool
) -> tuple[several.Tasks, several.Datasets, several.Models, Manifest]:
    """All tasks of a run, and the joint manifest of their networks."""
    networks, manifests = {}, {}
    for name, of_task in task_configs.read(config).items():
        try:
            task, dataset, model = _network(of_task.config, batch_norm)
        except ValueError as error:
            raise ValueError(f"tasks: {name}: {error}") from error
        networks[name] = several.Network(of_task.config, task, dataset, model, of_task.weight)
        manifests[name] = _traced(model, task.example(dataset), "all", measure)
    return (
        several.Tasks(networks),
        several.Datasets("+".join(network.dataset.name for network in networks.values())),
        several.Models({name: network.model for name, network in networks.items()}),
        Manifest.joined(manifests, config.method.hashed),
    )


def _source(config: Config, task: several.Tasks) -> Run:
    """The run to whose pools the tasks are added."""
    field = f"pool_from={config.pool_from}"
    try:
        source = Run.in_folder(config.pool_from)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error
    if not source.networks:
        raise ValueError(f"{field} must be a run of several tasks: its config.tasks names none")
    there = [name for run in source.lineage for name in run.networks]
    if again := [name for name in task.networks if name in there]:
        raise ValueError(f"{field} has a task {again[0]!r} already: {', '.join(there)}")
    ours, theirs = (methods.all_options("smh", c.method.options) for c in (config, source.config))
    if ours != theirs:
        raise ValueError(f"{field} has method.options={theirs}, {ours} here: its pools are shared")
    return source


def _method(
    config: Config,
    manifest: Manifest,
    model: nn.Module,
    example: jax.ShapeDtypeStruct,
    source: Run | None,
) -> methods.Method:
    """The method of a run, of the size that was asked for in variables or in bytes."""
    if source is not None:
        pools = methods.innermost(source.method)
        size = config.method.target_size
        return shared.added(pools, manifest, size, config.pool == "grown")
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
    if config.tasks:
        for name in shared.names(method):
            shared.member(method, name)
    # What is pruned is rounded, and not what is rounded pruned: equal magnitudes are not ranked.
    return methods.pruned(methods.rounded(method, precision, config.rate_weight), config.pruning)


def _state_shapes(model: nn.Module, example: jax.ShapeDtypeStruct) -> forward.ModelState:
    """Shapes of a model's collections but its params."""
    init = functools.partial(forward.initial_collections, model, example)
    return jax.eval_shape(init, jax.random.key(0))[1]


def _traced(
    model: nn.Module, example: jax.ShapeDtypeStruct, hashed: str, measure: bool
) -> Manifest:
    """The manifest of a model; measured, or good for counting only."""
    # The axis has its name inside of a step only.
    local = model.clone(axis_name=None)
    return adapted.manifest_of(local, example, hashed=hashed, measure=measure)


def _manifest_of(traced: Manifest, config: Config, known: Manifest | None) -> Manifest:
    """The model's manifest: the known one, if it is of this model, or the one just made."""
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
