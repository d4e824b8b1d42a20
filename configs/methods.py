"""How a recipe's weights are generated: what its config files share; not a config file itself."""

from collections.abc import Mapping
from typing import Any

from smh_jax import methods
from smh_jax.config import MethodConfig

# Fields of `OptimizerConfig` under gradient descent with momentum, found on digits and
# Fashion-MNIST: a product of two factors that both move wants its gradient clipped, a higher rate
# than a weight, and a lower one for the scale.
GENERATED = {"clip_norm": 1.0, "pool_rate": 2.0, "scale_rate": 0.1}
# Under Adam a scale, which moves a whole layer, takes steps as large as any weight's. Of 0.1 and
# 0.01 the second was the better one for a Vision Transformer; experiments/results/README.md says
# how far that is known.
GENERATED_BY_ADAM = GENERATED | {"scale_rate": 0.01}


def rates(method: str, optimizer: str) -> Mapping[str, float]:
    """The fields above that fit a method's variables and the optimizer; none of a dense model."""
    if method == "dense":
        return {}
    return GENERATED_BY_ADAM if optimizer == "adamw" else GENERATED


def method_config(args: Mapping[str, Any], **options: Any) -> MethodConfig:
    """The method of parsed string arguments.

    Args:
        args: `method`, `target_size` and `hashed`; a dense model has no target.
        **options: of the method, unless it is dense, in place of its defaults.
    """
    name = args["method"]
    dense = name == "dense"
    return MethodConfig(
        name=name,
        # Of a dense model nothing is.
        hashed="all" if dense else args["hashed"],
        target_size=None if dense else args["target_size"],
        options=methods.default_options(name) | ({} if dense else options),
    )
