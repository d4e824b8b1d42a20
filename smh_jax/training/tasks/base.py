"""The interface of every task."""

import abc
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import jax
import numpy as np

from smh_jax.config import DataConfig
from smh_jax.config.names import check_known

Batch = dict[str, Any]


class Dataset(Protocol):
    """What is known of a dataset before it is read; equal where models can learn from each other.

    Attributes:
        name: of the dataset.
        class_names: of the logits, in their order.
        num_classes: how many there are.
    """

    name: str
    class_names: tuple[str, ...]
    num_classes: int


class Split(Protocol):
    """Examples: `num_examples` of them."""

    num_examples: int


class Preprocessing(Protocol):
    """What a shipped model knows of its inputs: a frozen dataclass, whose fields JSON can hold.

    Attributes:
        task: name of the task.
        input_name: of the input in exported programs, such as 'images'.
        shape, dtype: of one input.
        about: what else a program's user has to know of them, for the metadata of exported files.
    """

    task: ClassVar[str]
    input_name: ClassVar[str]
    shape: tuple[int, ...]
    dtype: str
    about: Mapping[str, Any]

    def normalize(self, inputs: np.ndarray) -> np.ndarray:
        """The model's input, of inputs as people have them.

        Raises:
            ValueError: for inputs of a different shape or dtype.
        """


_TASKS: dict[str, type["Task"]] = {}


class Task(abc.ABC):
    """What is learned, of which examples, and what is done with it then.

    A subclass is known by its `name` from the time it is defined; see `of_name`.
    The loss of an example may be one number or several, such as one for each token: means are over
    all of them.

    Attributes:
        name: what configs call it.
        takes: what its models take, 'images' or 'tokens'; see `smh_jax.models.takes`.
        input: the key of the model's input in a batch.
    """

    name: ClassVar[str]
    takes: ClassVar[str]
    input: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if isinstance(vars(cls).get("name"), str):
            _TASKS[cls.name] = cls

    @abc.abstractmethod
    def describe(self, config: DataConfig) -> Dataset:
        """Describes the dataset without reading it.

        Raises:
            ValueError: for a dataset that is unknown or not of this task.
        """

    @abc.abstractmethod
    def load(self, dataset: Dataset, split: str, config: DataConfig) -> Split:
        """Reads a split, or opens one that stays in its files.

        Raises:
            ValueError: if it cannot be found or prepared.
        """

    def load_splits(self, dataset: Dataset, config: DataConfig) -> list[Split]:
        """The training and the evaluation split; see `load`."""
        return [
            self.load(dataset, split, config) for split in (config.train_split, config.eval_split)
        ]

    @abc.abstractmethod
    def train_batches(
        self,
        split: Split,
        dataset: Dataset,
        config: DataConfig,
        *,
        seed: int,
        first_step: int,
        last_step: int,
        host: int,
        num_hosts: int,
    ) -> Iterator[Batch]:
        """This host's share of the batches of steps `first_step` to `last_step - 1`.

        What step s sees is a function of the seed and of s.
        """

    @abc.abstractmethod
    def eval_batches(
        self,
        split: Split,
        dataset: Dataset,
        config: DataConfig,
        *,
        batch_size: int,
        host: int,
        num_hosts: int,
    ) -> Iterator[Batch]:
        """This host's share of batches that count everything once.

        Their `mask`, of the loss's shape, is 1 where it counts and 0 where a batch is padded.
        """

    @abc.abstractmethod
    def abstract_batch(self, dataset: Dataset, size: int, dtype: str) -> Batch:
        """Shapes and dtypes of a training batch.

        Args:
            dataset: of the examples.
            size: how many there are.
            dtype: of real numbers in the batch.
        """

    def example(self, dataset: Dataset) -> jax.ShapeDtypeStruct:
        """Shape and dtype of the model's input for one example, the batch dimension included."""
        return self.abstract_batch(dataset, 1, "float32")[self.input]

    @abc.abstractmethod
    def measure(
        self, logits: jax.Array, batch: Batch, label_smoothing: float
    ) -> dict[str, jax.Array]:
        """`loss` in nats, and `correct`, where the answer is right, of the same shape [batch, ...].

        Args:
            logits: [batch, ..., classes].
            batch: as the data gives it.
            label_smoothing: share of the target spread evenly over all classes.
        """

    def derived(self, measured: Mapping[str, float], dataset: Dataset) -> dict[str, float]:
        """Further figures that follow from the means of `loss` and `accuracy` on a dataset."""
        return {}

    @abc.abstractmethod
    def headline(self, result: Mapping[str, Any]) -> str:
        """How good a run is, by its result, in a few words."""

    @abc.abstractmethod
    def preprocessing(self, dataset: Dataset) -> Preprocessing:
        """What a shipped model has to know of its inputs."""

    @abc.abstractmethod
    def read_preprocessing(self, fields: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing of these fields, as a file has them.

        Raises:
            ValueError: or any other error, for fields that are none.
        """

    @abc.abstractmethod
    def predict(
        self, artifact: Any, arguments: Sequence[str], options: Mapping[str, Any]
    ) -> Iterator[str]:
        """Lines that say what a model predicts.

        Args:
            artifact: a `smh_jax.Artifact` of this task.
            arguments: what the command was given.
            options: `top`, `length`, `temperature` and `seed`; each task takes those it knows.
        """


def names() -> tuple[str, ...]:
    """The names of all tasks, in order of definition."""
    return tuple(_TASKS)


def of_name(name: str) -> Task:
    """The task of a name.

    Raises:
        ValueError: for an unknown name; the near ones are listed.
    """
    check_known(f"task={name!r}", name, names())
    return _instance(_TASKS[name])


@functools.cache
def _instance(kind: type[Task]) -> Task:
    """One and the same each time, as programs are kept by it."""
    return kind()
