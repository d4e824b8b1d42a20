"""What the recipes that train on a few CPU cores share; not a config file itself."""

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
    data: DataConfig,
    optimizer: Mapping[str, Any],
    model_options: Mapping[str, Any] | None = None,
    **run: Any,
) -> ConfigDict:
    """The config of a small model.

    Args:
        args: parsed string arguments `method`, `target_size`, `hashed` and `seed`.
        model: its name.
        data: the dataset.
        optimizer: fields of `OptimizerConfig` for the dense model.
        model_options: of the model, in place of its defaults.
        **run: further fields of `Config`.
    """
    rates = methods.rates(args["method"], optimizer["name"])
    return to_config_dict(
        Config(
            model=ModelConfig(model, models.default_options(model) | dict(model_options or {})),
            method=methods.method_config(args),
            data=data,
            optimizer=OptimizerConfig(**{**optimizer, **rates}),
            seed=args["seed"],
            **run,
        )
    )
