"""Typed configurations, and the strict way to them from config files and command lines."""

from smh_jax.config.dicts import from_config_dict, to_config_dict, to_json_dict
from smh_jax.config.resuming import changes_on_resume, differences, what_follows_from_epochs
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
__all__ += ["ModelConfig", "OptimizerConfig", "PullConfig", "changes_on_resume", "differences"]
__all__ += ["from_config_dict", "what_follows_from_epochs"]
__all__ += ["to_config_dict", "to_json_dict"]
