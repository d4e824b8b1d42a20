"""What the recipes for CIFAR ResNets on small images share; not a config file itself."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from smh_jax import methods, models
from smh_jax.config import (
    Config,
    DataConfig,
    MethodConfig,
    ModelConfig,
    OptimizerConfig,
    to_config_dict,
)


def build(
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
    method = args["method"]
    dense = method == "dense"
    # Found on digits and Fashion-MNIST: a product of two factors that both move wants its gradient
    # clipped, a higher rate than a weight, and a lower one for the scale.
    generated = {} if dense else {"clip_norm": 1.0, "pool_rate": 2.0, "scale_rate": 0.1}
    return to_config_dict(
        Config(
            model=ModelConfig(model, models.default_options(model)),
            method=MethodConfig(
                name=method,
                hashed=args["hashed"],
                target_size=None if dense else args["target_size"],
                options=methods.default_options(method),
            ),
            data=data,
            optimizer=OptimizerConfig(**{**optimizer, **generated}),
            seed=args["seed"],
            **run,
        )
    )
