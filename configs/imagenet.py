"""What the recipes for ImageNet share; not a config file itself.

The rates, lengths and regularizers of each file are those under which the family's dense models
were published. Learning rates are per 256 examples. Models compute in bfloat16; variables, batch
statistics and averages are kept in float32.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import methods
from smh_jax import models
from smh_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, to_config_dict
from smh_jax.config.names import check_known


class _Generation(NamedTuple):
    """What the name of an accelerator stands for: v4-32 has 32 / 2 devices of 30.75 GiB."""

    counted_per_device: int
    gib: float  # of a device, for programs, as the TPU compiler says


# By Google's names; v5litepod is v5e.
_GENERATIONS = {
    "v3": _Generation(1, 15.48),
    "v4": _Generation(2, 30.75),
    "v5litepod": _Generation(1, 15.75),
    "v5p": _Generation(2, 95.74),
    "v6e": _Generation(1, 31.25),
}


def microbatches(accelerator: str, batch_size: int, images_on_v3: int) -> int:
    """Equal parts, as few as memory allows, in which a device takes its images of a step.

    Args:
        accelerator: a slice by Google's name, such as 'v3-32' or 'v5litepod-16'.
        batch_size: images of a step, over all devices.
        images_on_v3: how many images at once fit a core of v3. Other devices take more by as much
            as they have more memory, most of which activations fill.

    Raises:
        ValueError: if there is no such slice, or the batch cannot be spread over its devices.
    """
    name, _, size = accelerator.rpartition("-")
    check_known(f"accelerator={accelerator!r}", name, _GENERATIONS)
    generation = _GENERATIONS[name]
    devices, rest = divmod(int(size) if size.isdecimal() else 0, generation.counted_per_device)
    if devices < 1 or rest or batch_size % devices:
        raise ValueError(
            f"accelerator={accelerator!r} must end in {generation.counted_per_device} for each "
            f"device, as {name}-16 does, and the devices must divide the batch of {batch_size}"
        )
    images = batch_size // devices
    at_once = int(images_on_v3 * generation.gib / _GENERATIONS["v3"].gib)
    return next(n for n in range(1, images + 1) if images % n == 0 and images // n <= at_once)


def run_config(
    args: Mapping[str, Any],
    *,
    model: str,
    data: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    **run: Any,
) -> ConfigDict:
    """The config of a run on imagenet2012.

    Args:
        args: parsed string arguments `method`, `target_size`, `hashed`, `scale` and `seed`.
        model: its name.
        data: fields of `DataConfig` that the family sets.
        optimizer: fields of `OptimizerConfig`. Weight decay is on the weights, generated or not:
            the published regularizer of the base model whatever its weights are made of.
        **run: further fields of `Config`.
    """
    return to_config_dict(
        Config(
            model=ModelConfig(model, models.default_options(model) | {"dtype": "bfloat16"}),
            method=methods.method_config(args, scale=args["scale"]),
            data=DataConfig(
                name="imagenet2012",
                eval_split="validation",
                image_size=models.default_resolution(model),
                eval_batch_size=2048,
                image_dtype="bfloat16",
                **data,
            ),
            optimizer=OptimizerConfig(weight_decay_on="weights", **optimizer),
            seed=args["seed"],
            log_every_steps=100,
            eval_every_epochs=10,
            checkpoint_every_steps=1000,
            **run,
        )
    )
