"""Rows of the paper's scale on ImageNet: the recipes of `configs/imagenet_*.py`."""

from experiments.paper import Number
from experiments.row import Row, TpuSlice
from experiments.tables import kinds

# The slice of the paper's Table 1: 16 chips of two cores, on 4 hosts.
SLICE = TpuSlice(version="v3", topology="4x4")


def row(
    base_model: str,
    kind: str,
    *,
    size: int | None = None,
    series: str | None = None,
    group: str | None = None,
    hashed: str = "all",
    width: float = 1.0,
    resolution: int = 0,
    paper: Number | None = None,
    note: str = "",
) -> Row:
    """A row of the paper's scale; its name tells what is trained, the same in every table.

    Args:
        base_model: of `smh_jax.models.names()`.
        kind: of `kinds.KINDS`.
        size: the target; for a dense model None.
        series, group: of the row; the kind and the base model where they are not given.
        hashed: which weights.
        width, resolution: of the model's options, for the narrower baselines.
        paper: what the paper reports.
        note: see `Row`.
    """
    family, _, variant = base_model.partition("_") if "_" in base_model else ("resnet", "", "")
    variant = variant or base_model.removeprefix("resnet")
    return Row(
        name=kinds.row_name(base_model, kind, size, hashed, width, resolution),
        series=series or kind,
        group=group or base_model,
        config=f"configs/imagenet_{family}.py:variant={variant},"
        + kinds.arguments(kind, size, hashed),
        overrides=kinds.overrides(kind, width, resolution),
        paper=paper,
        note=note,
        tpu_slice=SLICE,
    )
