"""What a trained model is worth as a file: bytes and accuracy by precision of its pools."""

import pathlib
from collections.abc import Sequence
from typing import Any

from smh_jax.shipping import artifact as artifacts
from smh_jax.shipping import from_run as shipping


def exports(workdir: pathlib.Path, precisions: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Bytes and test accuracy of a run's exported file, by precision."""
    artifact = shipping.from_run(workdir)
    dataset = shipping.dataset_of(artifact, None)
    measured = {}
    for precision in precisions:
        rounded = shipping.measured(artifact.at(precision), dataset)
        size = len(artifacts.encode(rounded))
        measured[precision] = {"bytes": size, "accuracy": rounded.accuracy["accuracy"]}
    return measured
