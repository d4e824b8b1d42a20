"""What the recipes for CIFAR ResNets on small images share; not a config file itself."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import methods
from smh_jax import models
from smh_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, to_config_dict


def run_config(
    args: Mapping[str, Any], *, data: DataConfig, optimizer: Mapping[str, Any], **run: Any
) -> ConfigDict:
    """The config of a `cifar_resnet`.

    Args:
        args: parsed string arguments `depth`, `method`, `target_size`, `hashed` and `seed`.
        data: the dataset.
        optimizer: fields of `OptimizerConfig` for the dense model.
        **run: further fields of `Config`.
    """
    model = f"cifar_resnet{args['depth']}"
    generated = {} if args["method"] == "dense" else methods.GENERATED
    return to_config_dict(
        Config(
            model=ModelConfig(model, models.default_options(model)),
            method=methods.method_config(args),
            data=data,
            optimizer=OptimizerConfig(**{**optimizer, **generated}),
            seed=args["seed"],
            **run,
        )
    )
