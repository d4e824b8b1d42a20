"""Compresses a trained model: pools and scales that come closest to its weights.

python -m smh_jax.convert --workdir=runs/dense --target_size=18750 --output=runs/converted
python -m smh_jax.convert --config=configs/digits.py --params=model.msgpack --output=runs/converted
python -m smh_jax.convert --config=configs/imagenet_resnet.py --params=model.safetensors \\
    --output=runs/converted

The params are of Flax, timm, torchvision, Hugging Face or Keras: `smh_jax.pretrained` says which
models and with which options.

The output is the folder of a run at step 0, from which the trainer fine-tunes:

python -m smh_jax.main --config=configs/fashion_mnist.py --config.init_from=runs/converted \\
    --config.optimizer.learning_rate=0.2 --workdir=runs/fine_tuned

With --steps, a dense run's weights are drawn to those that the method can generate while they are
trained for as many steps more, and far more of what they know is kept (`training/pull.py`); the
same command resumes a training that was ended:

python -m smh_jax.convert --workdir=runs/dense --target_size=18750 --steps=1000 \\
    --learning_rate=0.2 --output=runs/converted

Of an adapter, a run with frozen weights, --merge makes a dense run of plain ones:

python -m smh_jax.convert --workdir=runs/adapter --merge --output=runs/merged
"""

import dataclasses
from typing import TYPE_CHECKING

from absl import flags, logging
from ml_collections import config_flags

from smh_jax import cli
from smh_jax.config import MethodConfig, PullConfig, arguments, from_config_dict

if TYPE_CHECKING:
    from smh_jax.shipping import conversion

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained run.")
PARAMS = flags.DEFINE_string(
    "params", None, "In its place: a Flax model's or pretrained weights on disk."
)
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "With --params: the model, dataset and method.", lock_config=True
)
TARGET_SIZE = flags.DEFINE_integer("target_size", None, "Variables, with --workdir.")
MERGE = flags.DEFINE_bool(
    "merge", False, "Make a dense run of --workdir, frozen weights and what was added in one."
)
HASHED = flags.DEFINE_string("hashed", "all", "Tensors that are generated, with --workdir.")
OPTIONS = flags.DEFINE_string("options", "", "Of method smh, with --workdir: 'blocks=4,...'.")
STEPS = flags.DEFINE_integer(
    "steps", None, "Of training while the dense run's weights are drawn to the method's."
)
LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", None, "Of these steps: the peak; the dense run's if not given."
)
PULL = flags.DEFINE_string("pull", "", "Of these steps: 'first=...,last=...', see config.pull.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the new run.", required=True)


def main(_: list[str]) -> None:
    """Converts and prints the errors."""
    if (WORKDIR.value is None) == (PARAMS.value is None):
        raise ValueError("give either --workdir=... or --params=...")
    if MERGE.value and PARAMS.value is not None:
        raise ValueError("--merge goes with --workdir")
    if STEPS.value is None and (LEARNING_RATE.value is not None or PULL.value):
        raise ValueError("--learning_rate and --pull go with --steps")
    # It takes seconds to load, which a mistake in the flags need not wait for.
    from smh_jax.shipping import conversion

    if PARAMS.value is not None:
        if CONFIG.value is None or TARGET_SIZE.value is not None:
            raise ValueError("--params goes with --config, which has the target size")
        if HASHED.present or OPTIONS.value:
            raise ValueError(
                "--hashed and --options go with --workdir; with --params, see --config"
            )
        if STEPS.value is not None:
            raise ValueError(
                "--steps goes with --workdir: of params, --config=...:method=dense makes such a run"
            )
        source = conversion.of_params(PARAMS.value, from_config_dict(CONFIG.value))
    else:
        source = _of_run()
    errors = conversion.convert(source, OUTPUT.value)
    method = source.run.method
    if errors:
        print(conversion.table(method, errors))
    counts = method.summary
    print(f"{counts['num_variables']:,} variables for {counts['num_weights']:,} weights")
    print(f"fine-tune with --config.init_from={OUTPUT.value}")


def _of_run() -> "conversion.Conversion":
    """The conversion of a run, after the training that was asked for."""
    from smh_jax import methods
    from smh_jax.shipping import conversion

    if CONFIG.value is not None:
        raise ValueError("--workdir goes with --target_size and without --config")
    if TARGET_SIZE.value is None and (HASHED.present or OPTIONS.value):
        raise ValueError("--hashed and --options go with --target_size")
    method = None
    if MERGE.value:
        if TARGET_SIZE.value is not None or STEPS.value is not None:
            raise ValueError("--merge goes without --target_size and --steps")
        method = MethodConfig("dense")
    elif TARGET_SIZE.value is not None:
        options = arguments.parse(OPTIONS.value, **methods.default_options("smh"))
        method = MethodConfig("smh", HASHED.value, TARGET_SIZE.value, options.to_dict())
    if STEPS.value is None:
        return conversion.of_run(WORKDIR.value, method)
    if method is None:
        raise ValueError("--steps goes with --target_size")
    fields = dataclasses.fields(PullConfig)
    defaults = {field.name: field.default for field in fields if field.name != "towards"}
    source = conversion.learn(
        WORKDIR.value,
        method,
        OUTPUT.value,
        steps=STEPS.value,
        learning_rate=LEARNING_RATE.value,
        **arguments.parse(PULL.value, **defaults),
    )
    if source is None:
        logging.info("the same command resumes from here")
        raise SystemExit(cli.INTERRUPTED)
    return source


if __name__ == "__main__":
    cli.run(main)
