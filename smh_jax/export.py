"""Makes one file of a trained run, and shows what each precision of its pools costs.

python -m smh_jax.export --workdir=runs/digits --output=model.smh --precision=int8
python -m smh_jax.export --workdir=runs/elastic --size=0.1 --output=tenth.smh
python -m smh_jax.export --workdir=runs/elastic --all_sizes --output=sizes.smh
python -m smh_jax.export --workdir=runs/shared --all_tasks --output=shared.smh
python -m smh_jax.export --artifact=model.smh --onnx=model.onnx --stablehlo=model.stablehlo
python -m smh_jax.export --artifact=model.smh --precision=int4 --calibrate=synthetic --output=4.smh
"""

import os
from typing import TYPE_CHECKING

from absl import flags

from smh_jax import cli
from smh_jax.config.files import write_bytes

if TYPE_CHECKING:
    from smh_jax.shipping.artifact import Artifact

# Those of `smh_jax.artifact`, which takes seconds to load.
PRECISIONS = ("float32", "bfloat16", "int8", "int4", "int3", "int2", "ternary", "coded")
FORMS = ("on_the_fly", "unpacked")
SOURCES = ("synthetic", "data")

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained run.")
ARTIFACT = flags.DEFINE_string("artifact", None, "An exported model, in place of a run.")
SIZE = flags.DEFINE_float(
    "size",
    None,
    "Of an elastic run, or a file of several sizes: which one, as a number of variables or a share "
    "of all weights; the largest by default.",
)
ALL_SIZES = flags.DEFINE_bool(
    "all_sizes", False, "Write all sizes of an elastic run into one file, the smallest first."
)
TASK = flags.DEFINE_string("task", None, "Of a run or a file of several tasks: which one, alone.")
ALL_TASKS = flags.DEFINE_bool("all_tasks", False, "Write all tasks of a run into one file.")
OUTPUT = flags.DEFINE_string("output", None, "The file to write, such as model.smh.")
PRECISION = flags.DEFINE_string(
    "precision", None, f"Of the pools: {', '.join(PRECISIONS)} or coded:STEP."
)
CALIBRATE = flags.DEFINE_enum(
    "calibrate",
    "none",
    ("none", *SOURCES),
    "Re-estimate what rounding changed: batch norm from images that are made of its own statistics "
    "('synthetic'), or from training images, with the pools' scales ('data').",
)
COMPRESS = flags.DEFINE_bool("compress", False, "Compress the file by zstandard.")
EVALUATE = flags.DEFINE_bool("evaluate", True, "Measure every precision on the test set.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Of the test set, if not where the run had it.")
STABLEHLO = flags.DEFINE_string("stablehlo", None, "Also the computation, for JAX and XLA.")
ONNX = flags.DEFINE_string("onnx", None, "Also the computation, for ONNX runtimes.")
FORM = flags.DEFINE_enum(
    "form",
    "on_the_fly",
    FORMS,
    "Of the computation: 'on_the_fly' generates weights layer by layer from the variables inside, "
    "'unpacked' has all weights inside.",
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace files that exist.")


def main(_: list[str]) -> None:
    """Exports."""
    if (WORKDIR.value is None) == (ARTIFACT.value is None):
        raise ValueError("give either --workdir=... or --artifact=...")
    if FORM.present and STABLEHLO.value is None and ONNX.value is None:
        raise ValueError("--form goes with --onnx or --stablehlo")
    if ALL_SIZES.value or ALL_TASKS.value:
        _export_all()
        return
    from smh_jax.shipping import artifact as artifacts
    from smh_jax.shipping import calibration, from_run, stablehlo

    if PRECISION.value is not None:
        artifacts.parse(PRECISION.value)

    files = [flag.value for flag in (OUTPUT, STABLEHLO, ONNX) if flag.value is not None]
    if len(set(files)) < len(files):
        raise ValueError(f"{', '.join(files)} must be different files")
    for path in files:
        artifacts.check_new(path, OVERWRITE.value)
    if ONNX.value is not None:
        # The library that it needs is missed before anything is measured.
        from smh_jax.shipping import onnx
    if WORKDIR.value is not None:
        artifact = from_run.read_artifact(WORKDIR.value, SIZE.value, TASK.value)
    else:
        artifact = artifacts.load(ARTIFACT.value, size=SIZE.value, task=TASK.value)
        artifact = artifact if TASK.value is None else artifacts.alone(artifact)
    # An impossible precision is reported before anything is measured.
    precision = from_run.precision_for(artifact, PRECISION.value, COMPRESS.value)
    is_calibrated = CALIBRATE.value != "none"
    if is_calibrated:
        calibration.check(artifact, precision)
    dataset = from_run.dataset_of(artifact, DATA_DIR.value) if EVALUATE.value else None
    by_precision = from_run.at_every_precision(artifact, dataset, COMPRESS.value, precision)
    if artifact.provenance.get("test_accuracy") is not None:
        print(f"the run's own: {artifact.provenance['test_accuracy']:.2%}")
    if is_calibrated:
        artifact = calibration.calibrate(artifact, precision, CALIBRATE.value, DATA_DIR.value)
        artifact = artifact if dataset is None else from_run.with_accuracy(artifact, dataset)
        accuracy = f"{artifact.accuracy['accuracy']:.2%}" if artifact.accuracy else "-"
        print(f"{precision}, calibrated on {CALIBRATE.value} images: test accuracy {accuracy}")
    else:
        artifact = by_precision[precision]
    if OUTPUT.value is not None:
        artifacts.save(OUTPUT.value, artifact, compress=COMPRESS.value, overwrite=OVERWRITE.value)
    if STABLEHLO.value is not None:
        write_bytes(STABLEHLO.value, stablehlo.export(artifact, FORM.value))
    if ONNX.value is not None:
        write_bytes(ONNX.value, onnx.export(artifact, FORM.value))
    dense = f"{4 * artifact.method.manifest.num_weights:,} as plain float32 weights"
    for path in files:
        print(f"{path}: {artifact.precision}, {os.path.getsize(path):,} bytes ({dense})")


def _export_all() -> None:
    """Writes the file of all sizes or all tasks, and says how good each is as it was written."""
    flag = "--all_sizes" if ALL_SIZES.value else "--all_tasks"
    others = (ARTIFACT, SIZE, TASK, STABLEHLO, ONNX)
    if any(other.value is not None for other in others) or COMPRESS.value or OUTPUT.value is None:
        raise ValueError(f"{flag} goes with --workdir, --output and --precision alone")
    if CALIBRATE.value != "none" or (ALL_SIZES.value and ALL_TASKS.value):
        raise ValueError(f"{flag} goes without --calibrate, and --all_sizes without --all_tasks")
    from smh_jax.shipping import artifact as artifacts
    from smh_jax.shipping import from_run

    written = {"precision": PRECISION.value or "float32", "overwrite": OVERWRITE.value}
    row = "{:>10} {:>14} {:>14}".format
    if ALL_SIZES.value:
        artifacts.save_sizes(OUTPUT.value, from_run.read_sizes(WORKDIR.value), **written)
        print(row("size", "bytes", "test accuracy"), flush=True)
        for size, end in artifacts.ends(OUTPUT.value).items():
            accuracy = _accuracy(artifacts.load(OUTPUT.value, size=size)) if EVALUATE.value else "-"
            print(row(f"{size:,}", f"{end:,}", accuracy), flush=True)
        return
    artifacts.save_tasks(OUTPUT.value, from_run.read_tasks(WORKDIR.value), **written)
    print(row("task", "weights", "test accuracy"), flush=True)
    for task, artifact in artifacts.load_tasks(OUTPUT.value).items():
        accuracy = _accuracy(artifact) if EVALUATE.value else "-"
        print(row(task, f"{artifact.method.manifest.num_weights:,}", accuracy), flush=True)
    print(f"{OUTPUT.value}: {written['precision']}, {os.path.getsize(OUTPUT.value):,} bytes")


def _accuracy(artifact: "Artifact") -> str:
    """On the test set of the dataset that it was trained for."""
    from smh_jax.shipping import from_run

    dataset = from_run.dataset_of(artifact, DATA_DIR.value)
    return f"{from_run.with_accuracy(artifact, dataset).accuracy['accuracy']:.2%}"


if __name__ == "__main__":
    cli.run(main)
