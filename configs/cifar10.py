"""ResNet-32 on CIFAR-10, the setting of the paper's Figure 6 (He et al.'s recipe).

    python -m smh_jax.main --config=configs/cifar10.py --workdir=runs/cifar10

About an hour on one TPU v3 chip. The paper's accuracy: 92.9% dense, 90.2% at 46,662 variables,
92.5% at 119,562. Variants: configs/cifar10.py:depth=32,method=smh,target_size=46662,hashed=conv or
configs/cifar10.py:method=dense
"""

from ml_collections import ConfigDict

from configs import small
from smh_jax.config import DataConfig, arguments


def get_config(text: str = "") -> ConfigDict:
    """Arguments: depth, method, target_size, hashed, seed."""
    args = arguments.parse(text, depth=32, method="smh", target_size=119_562, hashed="all", seed=0)
    return small.run_config(
        args,
        model=f"cifar_resnet{args.depth}",
        data=DataConfig(
            name="cifar10", augmentation="crop_flip", batch_size=128, eval_batch_size=1000
        ),
        optimizer={
            "name": "momentum",
            # 0.1 at the recipe's batch of 128.
            "learning_rate": 0.2,
            "schedule": "piecewise",
            "decay_epochs": (100.0, 150.0),
            "weight_decay": 1e-4,
        },
        epochs=200,
        log_every_steps=100,
        eval_every_epochs=10,
        checkpoint_every_steps=2000,
    )
