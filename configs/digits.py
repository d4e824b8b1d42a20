"""CIFAR ResNet on scikit-learn's digits, SMH at a quarter of the variables: the quick start.

    python -m smh_jax.main --config=configs/digits.py --workdir=runs/digits

About a minute on 2 CPU cores; test accuracy about 98% (the dense model's: 99%).
Variants: configs/digits.py:method=dense or configs/digits.py:depth=32,target_size=40000
"""

from ml_collections import ConfigDict

from smh_jax import methods, models
from smh_jax.config import (
    Config,
    DataConfig,
    MethodConfig,
    ModelConfig,
    OptimizerConfig,
    parse_arguments,
    to_config_dict,
)


def get_config(arguments: str = "") -> ConfigDict:
    """Arguments: depth, method, target_size, hashed, seed."""
    args = parse_arguments(
        arguments, depth=20, method="smh", target_size=67_000, hashed="all", seed=0
    )
    model = f"cifar_resnet{args.depth}"
    dense = args.method == "dense"
    return to_config_dict(
        Config(
            model=ModelConfig(model, models.default_options(model)),
            method=MethodConfig(
                name=args.method,
                hashed=args.hashed,
                target_size=None if dense else args.target_size,
                options=methods.default_options(args.method),
            ),
            data=DataConfig(name="digits", augmentation="crop", batch_size=128),
            optimizer=OptimizerConfig(
                name="momentum",
                learning_rate=0.4,
                schedule="one_cycle",
                weight_decay=1e-4,
                clip_norm=1.0,
                # The product of two factors wants a higher rate than a weight, its scale a lower.
                pool_rate=1.0 if dense else 2.0,
                scale_rate=0.1,
            ),
            seed=args.seed,
            epochs=60,
            log_every_steps=50,
            eval_every_epochs=20,
            checkpoint_every_steps=100,
        )
    )
