"""Typed configurations, and the strict way to them from config files and command lines."""

from smh_jax.config.schema import (
    CHANGEABLE,
    Config,
    DataConfig,
    DistillationConfig,
    MethodConfig,
    ModelConfig,
    OptimizerConfig,
    differences,
    from_config_dict,
    to_config_dict,
    to_json_dict,
)

__all__ = [
    "CHANGEABLE",
    "Config",
    "DataConfig",
    "DistillationConfig",
    "MethodConfig",
    "ModelConfig",
    "OptimizerConfig",
    "differences",
    "from_config_dict",
    "to_config_dict",
    "to_json_dict",
]
