"""Small models and configs that the tests share."""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import pytest

from configs import digits
from smh_jax import config as configs


class TwoLayers(nn.Module):
    """A convolution, batch norm and two dense layers whose names sort against their order."""

    num_classes: int = 10
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, train: bool):
        x = nn.Conv(8, (3, 3), name="z_conv")(images)
        x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name, name="norm")(x)
        x = jnp.mean(nn.relu(x), axis=(1, 2))
        x = nn.Dense(16, name="m_dense", kernel_init=nn.initializers.he_uniform())(x)
        return nn.Dense(self.num_classes, name="a_dense")(nn.relu(x))


def few_quick(cases: Iterable[Any], quick: int) -> list[Any]:
    """The parameters of a test, all but the first few slow; of several parameters in tuples."""
    return [
        case
        if index < quick
        else pytest.param(*(case if isinstance(case, tuple) else [case]), marks=pytest.mark.slow)
        for index, case in enumerate(cases)
    ]


def digits_config(data_dir, **changes) -> configs.Config:
    """A run of a few steps of a narrow ResNet-8 on digits.

    Args:
        data_dir: where the digits are prepared.
        **changes: fields by name with '__' for the dot, such as `method__name`.
    """
    content = digits.get_config("depth=8,target_size=1900").to_dict()
    content["model"]["options"]["width_multiplier"] = 0.25
    content["data"] |= {"data_dir": str(data_dir), "batch_size": 64, "eval_batch_size": 100}
    content |= {"epochs": 0.5, "log_every_steps": 4, "checkpoint_every_steps": 4}
    return changed(content, changes)


def changed(content: dict, changes: dict) -> configs.Config:
    """A configuration with some fields changed, by name with '__' for the dot."""
    for name, value in changes.items():
        node = content
        *path, last = name.split("__")
        for key in path:
            node = node[key]
        node[last] = value
    return configs.from_config_dict(content)


def write_config_file(path: pathlib.Path, config: configs.Config) -> None:
    """Writes a config file, as `--config` takes it, that gives this configuration."""
    path.write_text(
        "import json\n"
        "from smh_jax.config import from_config_dict, to_config_dict\n"
        "def get_config():\n"
        f"    content = json.loads({json.dumps(configs.to_json_dict(config))!r})\n"
        "    return to_config_dict(from_config_dict(content))\n"
    )
