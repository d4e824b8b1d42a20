"""How good a stored model is."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from smh_jax.shipping.artifact.artifact import Artifact
from smh_jax.training import losses


def evaluate(artifact: Artifact, batches: Iterable[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Accuracy, mean cross-entropy in nats and number of the examples in the batches.

    Args:
        artifact: the model.
        batches: of `image`, preprocessed, `label` and `mask`, which is 0 where an example does not
            count.
    """
    correct, loss, examples = 0.0, 0.0, 0.0
    for batch in batches:
        logits = artifact.logits(batch["image"])
        each = losses.cross_entropy(logits, batch["label"], label_smoothing=0.0)
        hits = np.argmax(logits, axis=-1) == batch["label"]
        correct += float(np.sum(hits * batch["mask"]))
        loss += float(np.sum(np.asarray(each, np.float64) * batch["mask"]))
        examples += float(np.sum(batch["mask"]))
    return {"accuracy": correct / examples, "loss": loss / examples, "examples": int(examples)}
