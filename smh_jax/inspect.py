"""Shows what would be trained, or what a base model is made of, without training.

python -m smh_jax.inspect --config=configs/digits.py
python -m smh_jax.inspect --model=efficientnet_b3 --all
"""

from typing import TYPE_CHECKING

from absl import flags
from ml_collections import config_flags

from smh_jax import cli
from smh_jax.config import from_config_dict
from smh_jax.config.schema import MAX_IMAGE_SIZE

if TYPE_CHECKING:
    from smh_jax.training.run import Run

CONFIG = config_flags.DEFINE_config_file("config", None, "What to inspect.", lock_config=True)
MODEL = flags.DEFINE_string("model", None, "A base model to inspect in place of a config.")
NUM_CLASSES = flags.DEFINE_integer(
    "num_classes", 1000, "Of --model.", lower_bound=1, upper_bound=1_000_000
)
RESOLUTION = flags.DEFINE_integer(
    "resolution",
    None,
    "Of --model; None for the published one.",
    lower_bound=1,
    upper_bound=MAX_IMAGE_SIZE,
)
ALL = flags.DEFINE_bool("all", False, "Every tensor, not only the ten largest.")
# Tensors that are shown unless all are asked for.
_LARGEST = 10


def describe_run(run: "Run", largest: int | None = None) -> str:
    """The counts, and a table of the largest or all tensors, of a run that is not trained."""
    precision = run.precision
    return run.method.describe(
        *_models(run),
        f"hashed set: {run.method.manifest.hashed_set}",
        f"manifest digest: {run.method.manifest.digest}",
        f"file: about {run.expected_bytes(precision):,} bytes at precision {precision}",
        *_sizes(run),
        largest=largest,
    )


def _models(run: "Run") -> list[str]:
    """What the run's model is and sees; of a run of several tasks, a line for each."""
    from smh_jax import models

    if not run.networks:
        multiply_adds = models.count_multiply_adds(run.local_model, run.example)
        return [
            f"model: {run.config.model.name}",
            f"dataset: {run.dataset.name}",
            f"input shape: {run.example.shape[1:]}",
            f"multiply-adds: {multiply_adds:,}",
        ]
    lines = []
    for name, network in run.networks.items():
        model, example = network.model.clone(axis_name=None), run.example[name]
        lines.append(
            f"task {name}: {network.config.model.name} on {network.dataset.name} "
            f"{example.shape[1:]}, weight {network.weight:g}, "
            f"{models.count_multiply_adds(model, example):,} multiply-adds"
        )
    return lines


def _sizes(run: "Run") -> list[str]:
    """A line for each size of an elastic run."""
    if not run.sizes:
        return []
    return [
        f"size {size:,}: {pairs:,} hash pairs"
        for size, pairs in zip(run.sizes, run.method.num_hash_pairs, strict=True)
    ]


def describe_model(
    name: str, num_classes: int, resolution: int | None, largest: int | None = None
) -> str:
    """Parameters, multiply-adds and hashable weights of a base model, and a table of its tensors.

    Args:
        name: of the model.
        num_classes: number of logits.
        resolution: side of its images in pixels, or number of tokens; None for the one it was
            published for.
        largest: how many tensors are shown; None for all.
    """
    from smh_jax import models
    from smh_jax.manifest import Manifest, table

    model = models.create(name, num_classes=num_classes)
    example = models.published_input(name, resolution)
    manifest = Manifest.from_model(model, example, example_kwargs={"train": False})
    return "\n".join(
        [
            f"model: {name}",
            f"input shape: {example.shape[1:]}",
            f"parameters: {manifest.num_weights:,}",
            f"multiply-adds: {models.count_multiply_adds(model, example):,}",
            f"hashable weights: {manifest.num_hashed:,} in {len(manifest.hashed)} tensors",
            "",
            table(manifest, largest),
        ]
    )


def main(_: list[str]) -> None:
    """Prints the description."""
    if (CONFIG.value is None) == (MODEL.value is None):
        raise ValueError("give either --config=configs/... or --model=...")
    if CONFIG.value is not None and (NUM_CLASSES.present or RESOLUTION.present):
        raise ValueError("--num_classes and --resolution go with --model; --config has its own")
    largest = None if ALL.value else _LARGEST
    if MODEL.value is not None:
        print(describe_model(MODEL.value, NUM_CLASSES.value, RESOLUTION.value, largest))
    else:
        from smh_jax.training.run import Run

        print(describe_run(Run.from_config(from_config_dict(CONFIG.value)), largest))


if __name__ == "__main__":
    cli.run(main)
