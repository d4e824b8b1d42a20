"""All experiments by name."""

import importlib

from experiments import sweep
from experiments.experiment import Experiment
from smh_jax.config.names import check_known

SCALES = ("reduced", "paper")
_NAMES = (
    "table1", "table2", "table3", "figure3", "figure4", "figure5", "figure6", "figure7", "tuning",
)  # fmt: skip


def names() -> tuple[str, ...]:
    """The paper's tables and figures, and the tuning of the reduced scale."""
    return _NAMES


def load(name: str, scale: str) -> Experiment:
    """An experiment with its rows.

    Args:
        name: one of `names()`, or the path of an ablation file, which has no scales.
        scale: one of `SCALES`.

    Raises:
        ValueError: for an unknown name.
    """
    if name.endswith(".toml"):
        return sweep.load(name)
    check_known(f"experiment {name!r}, which is no ablation file (.toml),", name, _NAMES)
    return importlib.import_module(f"experiments.tables.{name}").experiment(scale)
