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
"""

from absl import flags
from ml_collections import config_flags

from smh_jax import cli
from smh_jax.config import MethodConfig, arguments, from_config_dict

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained run.")
PARAMS = flags.DEFINE_string(
    "params", None, "In its place: a Flax model's or pretrained weights on disk."
)
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "With --params: the model, dataset and method.", lock_config=True
)
TARGET_SIZE = flags.DEFINE_integer("target_size", None, "Variables, with --workdir.")
HASHED = flags.DEFINE_string("hashed", "all", "Tensors that are generated, with --workdir.")
OPTIONS = flags.DEFINE_string("options", "", "Of method smh, with --workdir: 'blocks=4,...'.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the new run.", required=True)


def main(_: list[str]) -> None:
    """Converts and prints the errors."""
    if (WORKDIR.value is None) == (PARAMS.value is None):
        raise ValueError("give either --workdir=... or --params=...")
    # They take seconds to load, which a mistake in the flags need not wait for.
    from smh_jax import methods
    from smh_jax.shipping import conversion

    if WORKDIR.value is not None:
        if TARGET_SIZE.value is None or CONFIG.value is not None:
            raise ValueError("--workdir goes with --target_size and without --config")
        options = arguments.parse(OPTIONS.value, **methods.default_options("smh"))
        method = MethodConfig("smh", HASHED.value, TARGET_SIZE.value, options.to_dict())
        source, (run, params, state) = WORKDIR.value, conversion.of_run(WORKDIR.value, method)
    else:
        if CONFIG.value is None or TARGET_SIZE.value is not None:
            raise ValueError("--params goes with --config, which has the target size")
        source = PARAMS.value
        run, params, state = conversion.of_params(source, from_config_dict(CONFIG.value))
    errors = conversion.convert(run, params, state, OUTPUT.value, source)
    print(conversion.table(run.method, errors))
    counts = run.method.summary
    print(f"{counts['num_variables']:,} variables for {counts['num_weights']:,} weights")
    print(f"fine-tune with --config.init_from={OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
