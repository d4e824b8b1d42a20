"""ResNet-20 on scikit-learn's digits, SMH at a quarter of the variables: the quick start.

    python -m smh_jax.main --config=configs/digits.py --workdir=runs/digits

About a minute on 2 CPU cores; test accuracy about 98.5%.
Variants: configs/digits.py:method=dense or configs/digits.py:depth=32,target_size=40000
"""

from ml_collections import ConfigDict

from configs import small
from smh_jax.config import DataConfig, arguments


def get_config(text: str = "") -> ConfigDict:
    """Arguments: depth, method, target_size, hashed, seed."""
    args = arguments.parse(text, depth=20, method="smh", target_size=67_000, hashed="all", seed=0)
    return small.run_config(
        args,
        model=f"cifar_resnet{args.depth}",
        data=DataConfig(name="digits", augmentation="crop", batch_size=128),
        optimizer={
            "name": "momentum",
            "learning_rate": 0.4,
            "schedule": "one_cycle",
            "weight_decay": 1e-4,
        },
        epochs=40,
        log_every_steps=50,
        eval_every_epochs=10,
        checkpoint_every_steps=100,
    )
