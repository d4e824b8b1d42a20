"""What the recipes for ImageNet share; not a config file itself.

The rates, lengths and regularizers of each file are those under which the family's dense models
were published. Learning rates are per 256 examples. Models compute in bfloat16; variables, batch
statistics and averages are kept in float32.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import methods
from smh_jax import models
from smh_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, to_config_dict


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
