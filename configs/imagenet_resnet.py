"""ResNets on ImageNet, the setting of the paper's Figure 3 (Goyal et al.'s recipe).

    python -m smh_jax.main --config=configs/imagenet_resnet.py --workdir=gs://BUCKET/resnet50

on every host of a TPU v3 slice of 32 cores (4x4). Expected time: about three hours, if a core
takes 350 images a second; not measured by us.
The paper's accuracies at a number of variables, read out of its figure:

    ResNet-50    60.1% at 1.1M   65.3% at 2.2M   68.3% at 3.2M   69.4% at 4.7M   70.9% at 6.9M
    ResNet-101   66.3% at 2.2M   69.8% at 4.2M   71.9% at 5.5M   73.9% at 12M
    ResNet-50 narrowed by the width multiplier: 65.4% at 3.3M

Variants: configs/imagenet_resnet.py:variant=101,target_size=5500000 or :method=dense
"""

from ml_collections import ConfigDict

from configs import imagenet, methods
from smh_jax.config import arguments


def get_config(text: str = "") -> ConfigDict:
    """Arguments: variant (18, 34, 50, 101, 152), method, target_size, hashed, scale, seed."""
    args = arguments.parse(
        text,
        variant=50,
        method="smh",
        target_size=4_700_000,
        hashed="all",
        scale="learnable",
        seed=0,
    )
    return imagenet.run_config(
        args,
        model=f"resnet{args.variant}",
        data={"preprocessing": "resnet", "batch_size": 1024},
        optimizer={
            "name": "nesterov",
            "learning_rate": 0.1,
            "schedule": "piecewise",
            "warmup_epochs": 5.0,
            "decay_epochs": (30.0, 60.0, 80.0),
            "weight_decay": 1e-4,
            # As on small images; not tuned on ImageNet.
            **methods.rates(args.method, "nesterov"),
        },
        epochs=90,
    )
