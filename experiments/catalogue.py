"""All experiments by name."""

import importlib

from experiments import sweep
from experiments.experiment import Experiment
from smh_jax.config.names import check_known

SCALES = ("reduced", "standard", "paper")
# The paper's tables and figures, then what it does not ask.
_PAPER = ("table1", "table2", "table3", "figure3", "figure4", "figure5", "figure6", "figure7")
_OURS = {
    "reduced": (
        *("tuning", "rate_transfer", "shipping", "conversion", "frontier", "elastic", "shared"),
        *("transformer_rates", "transformers", "adapter_rates", "adapters"),
    ),
    "standard": ("tuning",),
    "paper": ("frontier",),
}


def names(scale: str = "reduced") -> tuple[str, ...]:
    """The experiments of a scale."""
    return (*_PAPER, *_OURS[scale])


def load_argument(argv: list[str], scale: str) -> Experiment:
    """The one experiment that a command line names; see `load`."""
    if len(argv) != 2:
        raise ValueError(f"name one experiment: {', '.join(names())}, or a .toml file")
    return load(argv[1], scale)


def load(name: str, scale: str) -> Experiment:
    """An experiment by one of `names()`, or an ablation by the path of its file (of any scale).

    Raises:
        ValueError: for an unknown name, or one that the scale does not have.
    """
    if name.endswith(".toml"):
        return sweep.load(name)
    check_known(f"experiment {name!r}, which is no ablation file (.toml),", name, names())
    if name not in names(scale):
        scales = " or ".join(repr(scale) for scale in SCALES if name in names(scale))
        raise ValueError(f"--scale={scale} must be {scales} for {name}, which is not the paper's")
    return importlib.import_module(f"experiments.tables.{name}").experiment(scale)
