"""A manifest as a table for people."""

from smh_jax.manifest.manifest import Manifest
from smh_jax.manifest.tensor import Tensor

_COLUMNS = ("tensor", "shape", "weights", "origin", "offset", "initial values")


def table(manifest: Manifest) -> str:
    """One line for each tensor, in columns."""
    rows = [_COLUMNS] + [_row(t, manifest.offsets.get(t.name)) for t in manifest.tensors]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(tensor: Tensor, offset: int | None) -> tuple[str, ...]:
    initial = tensor.initial
    values = {"constant": f"{initial.mean:g}"}.get(
        initial.distribution, f"{initial.distribution}, deviation {initial.stddev:.4g}"
    )
    return (
        tensor.name,
        "x".join(map(str, tensor.shape)) or "scalar",
        f"{tensor.size:,}",
        "hashed" if tensor.hashed else f"stored ({tensor.reason})",
        "" if offset is None else f"{offset:,}",
        values,
    )
