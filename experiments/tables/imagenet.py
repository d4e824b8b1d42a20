"""Rows of the paper's scale on ImageNet: the recipes of `configs/imagenet_*.py`."""

from typing import Any

from experiments import paper
from experiments.row import Row, TpuSlice
from experiments.tables import kinds

# The slice of the paper's Table 1: 16 chips of two cores, on 4 hosts.
SLICE = TpuSlice(version="v3", topology="4x4")


def row(model: str, kind: str, *, table: str = "", **fields: Any) -> Row:
    """A row of a model of `smh_jax.models.names()`; for other arguments see `kinds.row`.

    With a `table` of the paper the row has the number that stands there under the same names.
    """
    family, _, variant = model.partition("_")
    if not variant:
        family, variant = "resnet", model.removeprefix("resnet")
    if table:
        fields["paper"] = paper.find(table, model, kind, fields.get("size"))
    config = f"configs/imagenet_{family}.py:variant={variant}"
    return kinds.row(config, model, kind, tpu_slice=SLICE, **fields)
