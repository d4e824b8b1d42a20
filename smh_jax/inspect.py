"""Shows what would be trained: python -m smh_jax.inspect --config=configs/digits.py"""

from absl import flags
from ml_collections import config_flags

from smh_jax import cli
from smh_jax.config import from_config_dict
from smh_jax.manifest import Tensor
from smh_jax.run import Run, build

CONFIG = config_flags.DEFINE_config_file("config", None, "What to inspect.", lock_config=True)
flags.mark_flag_as_required("config")

_COLUMNS = ("tensor", "shape", "weights", "made", "offset", "initial values")


def describe(run: Run) -> str:
    """A table of every tensor, and the counts, of a run that is not trained."""
    manifest = run.method.manifest
    rows = [_COLUMNS] + [
        _row(tensor, manifest.offsets.get(tensor.name)) for tensor in manifest.tensors
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += [
        "",
        f"model: {run.config.model.name}",
        f"dataset: {run.dataset.name}",
        f"input shape: {run.input_shape[1:]}",
        f"hashed set: {manifest.hashed_set}",
        f"manifest digest: {manifest.digest}",
    ]
    for name, value in run.method.summary.items():
        if isinstance(value, float):
            value = f"{value:.2f}"
        elif isinstance(value, int):
            value = f"{value:,}"
        lines.append(f"{name.replace('_', ' ')}: {value}")
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


def main(_: list[str]) -> None:
    """Prints the description."""
    print(describe(build(from_config_dict(CONFIG.value))))


if __name__ == "__main__":
    cli.run(main)
