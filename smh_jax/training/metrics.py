"""What is measured of a batch, as sums and counts, so that batches and replicas add up exactly."""

import functools
from collections.abc import Iterable

import flax.struct
from clu import metrics

from smh_jax.training.parallel import AXIS_NAME


@flax.struct.dataclass
class Evaluation(metrics.Collection):
    """Mean cross-entropy and share of correct answers over the examples that are not masked."""

    loss: metrics.Average.from_output("loss")
    accuracy: metrics.Average.from_output("correct")


@flax.struct.dataclass
class Training(metrics.Collection):
    """The evaluation's on the training batch, and the norm of the gradient before clipping."""

    loss: metrics.Average.from_output("loss")
    accuracy: metrics.Average.from_output("correct")
    grad_norm: metrics.Average.from_output("grad_norm")


def gather(collection: type[metrics.Collection], **outputs) -> metrics.Collection:
    """The collection over all replicas; to be called inside a mapped step.

    Args:
        collection: its class.
        **outputs: values [examples of the replica], and optionally `mask` of the same shape, 1
            where the example counts and 0 where it does not.
    """
    return collection.gather_from_model_output(axis_name=AXIS_NAME, **outputs)


def mean(collections: Iterable[metrics.Collection]) -> dict[str, float]:
    """Each metric over all that the collections counted."""
    total = functools.reduce(lambda sum_so_far, batch: sum_so_far.merge(batch), collections)
    return {name: float(value) for name, value in total.compute().items()}
