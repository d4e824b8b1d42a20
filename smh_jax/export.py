"""Makes one file of a trained run, and shows what each precision of its pools would cost.

python -m smh_jax.export --workdir=runs/digits --output=model.smh --precision=int8
"""

import pathlib

from absl import flags

from smh_jax import artifact as artifacts
from smh_jax import cli, shipping

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained run.")
ARTIFACT = flags.DEFINE_string("artifact", None, "An exported model, in place of a run.")
OUTPUT = flags.DEFINE_string("output", None, "The file to write, such as model.smh.")
PRECISION = flags.DEFINE_enum("precision", None, artifacts.PRECISIONS, "Of the pools.")
COMPRESS = flags.DEFINE_bool("compress", False, "Compress the file by zstandard.")
EVALUATE = flags.DEFINE_bool("evaluate", True, "Measure every precision on the test set.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Of the test set, if not where the run had it.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace files that exist.")


def main(_: list[str]) -> None:
    """Exports."""
    if (WORKDIR.value is None) == (ARTIFACT.value is None):
        raise ValueError("give either --workdir=... or --artifact=...")
    if OUTPUT.value is not None:
        artifacts.check_new(pathlib.Path(OUTPUT.value), OVERWRITE.value)
    if WORKDIR.value is not None:
        artifact = shipping.from_run(WORKDIR.value)
    else:
        artifact = artifacts.load(ARTIFACT.value)
    precision = PRECISION.value or artifact.precision
    config = shipping.dataset_of(artifact, DATA_DIR.value) if EVALUATE.value else None
    artifact = shipping.table(artifact, config, COMPRESS.value).get(precision) or artifact.at(
        precision
    )
    accuracy = artifact.provenance.get("test_accuracy")
    if accuracy is not None:
        print(f"the run's own: {accuracy:.2%}")
    if OUTPUT.value is not None:
        artifacts.save(OUTPUT.value, artifact, compress=COMPRESS.value, overwrite=OVERWRITE.value)
        size = pathlib.Path(OUTPUT.value).stat().st_size
        print(f"{OUTPUT.value}: {precision}, {size:,} bytes")


if __name__ == "__main__":
    cli.run(main)
