"""A manifest as a table for people."""

from smh_jax.manifest.manifest import Manifest
from smh_jax.manifest.tensor import Tensor

_COLUMNS = ("tensor", "shape", "weights", "origin", "offset", "initial values")


def table(manifest: Manifest, largest: int | None = None) -> str:
    """One line for each tensor, or for each of the `largest`, in columns, in order of creation."""
    by_size = sorted(manifest.tensors, key=lambda tensor: -tensor.size)[:largest]
    shown = [tensor for tensor in manifest.tensors if tensor in by_size]
    rows = [_COLUMNS] + [_row(t, manifest.offsets.get(t.name)) for t in shown]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if left := len(manifest.tensors) - len(shown):
        lines.append(f"... and {left} smaller tensors (all of them with --all)")
    return "\n".join(lines)


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
