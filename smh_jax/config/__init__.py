"""Typed configurations, and the strict way to them from config files and command lines."""

from smh_jax.config.dicts import from_config_dict, to_config_dict, to_json_dict
from smh_jax.config.resuming import changes_on_resume, differences
from smh_jax.config.schema import (
    Config,
    DataConfig,
    DistillationConfig,
    ElasticConfig,
    MethodConfig,
    ModelConfig,
    OptimizerConfig,
    PullConfig,
)

__all__ = ["Config", "DataConfig", "DistillationConfig", "ElasticConfig", "MethodConfig"]
__all__ += [
    "ModelConfig",
    "OptimizerConfig",
    "PullConfig",
    "changes_on_resume",
    "differences",
    "from_config_dict",
]
__all__ += ["to_config_dict", "to_json_dict"]
