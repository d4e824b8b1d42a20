"""Several tasks that are trained together, each with a network of its own: to the trainer one.

Inputs, logits, params and the collections of the model have a level more, the names of the tasks.
A batch has as many examples of each. The losses, each a mean over its examples, are added up with
the tasks' weights.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from smh_jax.config import Config, DataConfig
from smh_jax.config.randomness import purpose_key
from smh_jax.manifest import Params
from smh_jax.training.forward import ModelState
from smh_jax.training.tasks import Dataset, Split, Task

Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """One of several.

    Attributes:
        config: the run's, as if this task were alone.
        task: what is learned.
        dataset: what is known of the dataset before it is read.
        model: the base model.
        weight: of its loss.
    """

    config: Config
    task: Task
    dataset: Dataset
    model: nn.Module
    weight: float


@dataclasses.dataclass(frozen=True)
class Models:
    """All base models; it has of a Linen module what is called of one."""

    by_name: Mapping[str, nn.Module]

    def clone(self, **fields: Any) -> "Models":
        """With other fields of each."""
        return Models({name: model.clone(**fields) for name, model in self.by_name.items()})

    def init(self, rngs: Mapping[str, jax.Array], inputs: Mapping[str, Any], *, train: bool) -> Any:
        """The collections of all models."""
        collections: dict[str, Any] = {"params": {}}
        for name, model in self.by_name.items():
            own = model.init(_keys(rngs, name), inputs[name], train=train)
            for collection, tree in own.items():
                collections.setdefault(collection, {})[name] = tree
        return collections

    def apply(
        self,
        variables: Mapping[str, Any],
        inputs: Mapping[str, Any],
        *,
        train: bool,
        mutable: Sequence[str] | bool = False,
        rngs: Mapping[str, jax.Array] | None = None,
    ) -> Any:
        """The logits of those models that get inputs, and with `mutable` their collections."""
        logits: dict[str, jax.Array] = {}
        changed: dict[str, Any] = {collection: {} for collection in mutable or ()}
        for name, own_inputs in inputs.items():
            own = {c: tree[name] for c, tree in variables.items() if name in tree}
            logits[name], next_state = self.by_name[name].apply(
                own,
                own_inputs,
                train=train,
                mutable=[c for c in changed if c in own],
                rngs=_keys(rngs or {}, name),
            )
            for collection, tree in next_state.items():
                changed[collection][name] = tree
        return logits if mutable is False else (logits, changed)


def _keys(rngs: Mapping[str, jax.Array], name: str) -> dict[str, jax.Array]:
    return {purpose: purpose_key(key, name) for purpose, key in rngs.items()}


@dataclasses.dataclass(frozen=True)
class Splits:
    """A split of each dataset; an epoch is one pass over the largest."""

    by_name: Mapping[str, Split]

    @property
    def num_examples(self) -> int:
        """Of the largest."""
        return max(split.num_examples for split in self.by_name.values())


@dataclasses.dataclass(frozen=True)
class Datasets:
    """The name of all datasets."""

    name: str


@dataclasses.dataclass(frozen=True)
class Tasks:
    """All tasks; it has of a `Task` what the trainer calls."""

    networks: Mapping[str, Network]
    input: ClassVar[str] = "inputs"

    def load_splits(self, dataset: Datasets, config: DataConfig) -> list[Splits]:
        """The training and the evaluation splits."""
        loaded = {
            name: network.task.load_splits(network.dataset, network.config.data)
            for name, network in self.networks.items()
        }
        return [Splits({name: both[i] for name, both in loaded.items()}) for i in (0, 1)]

    def train_batches(
        self, split: Splits, dataset: Datasets, config: DataConfig, **which: int
    ) -> Iterator[Batch]:
        """Batches of all tasks, joined."""
        batches = {
            name: network.task.train_batches(
                split.by_name[name], network.dataset, network.config.data, **which
            )
            for name, network in self.networks.items()
        }
        for each in zip(*batches.values(), strict=True):
            yield self.joined(dict(zip(batches, each, strict=True)))

    def abstract_batch(self, dataset: Datasets, size: int, dtype: str) -> Batch:
        """Shapes and dtypes of a training batch with `size` examples of each task."""
        return self.joined(
            {
                name: network.task.abstract_batch(network.dataset, size, dtype)
                for name, network in self.networks.items()
            }
        )

    def example(self, dataset: Datasets) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the inputs of one example of each task."""
        return {n: network.task.example(network.dataset) for n, network in self.networks.items()}

    def joined(self, batches: Mapping[str, Batch]) -> Batch:
        """One batch of the batches of some tasks: their inputs, and what else they have."""
        inputs, others = {}, {}
        for name, batch in batches.items():
            others[name] = dict(batch)
            inputs[name] = others[name].pop(self.networks[name].task.input)
        return {self.input: inputs, "others": others}

    def measure(
        self, logits: Mapping[str, jax.Array], batch: Batch, label_smoothing: float
    ) -> dict[str, jax.Array]:
        """`loss` and `correct`: in evaluation, which has a mask, those of the one task there.

        In training of the examples of all tasks, one after the other; the mean of `loss` is the
        weighted sum of the tasks' means.
        """
        measured = {
            name: self.networks[name].task.measure(x, batch["others"][name], label_smoothing)
            for name, x in logits.items()
        }
        if "mask" in batch:
            (only,) = measured.values()
            return only
        total = sum(each["loss"].size for each in measured.values())
        for name, each in measured.items():
            each["loss"] *= self.networks[name].weight * total / each["loss"].size
        return {
            key: jnp.concatenate([jnp.ravel(each[key]) for each in measured.values()])
            for key in ("loss", "correct")
        }

    def derived(self, measured: Mapping[str, float], dataset: Datasets) -> dict[str, float]:
        """Nothing follows from the means of all tasks."""
        return {}


def results(task: Tasks, measured: Mapping[str, float]) -> list[dict[str, Any]]:
    """In the result of a run of several tasks: how good each is."""
    of_tasks = []
    for name, network in task.networks.items():
        own = {key: measured[f"{key}_{name}"] for key in ("accuracy", "loss", "examples")}
        of_tasks.append(
            {
                "task": name,
                "model": network.config.model.name,
                "dataset": network.dataset.name,
                "weight": network.weight,
                **own,
                "examples": int(own["examples"]),
                **network.task.derived(own, network.dataset),
            }
        )
    return of_tasks


def of_network(tree: Params | ModelState, name: str) -> dict[str, Any]:
    """Of the collections of all models those of one."""
    return {collection: trees[name] for collection, trees in tree.items() if name in trees}
