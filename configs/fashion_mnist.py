"""Small ResNets on Fashion-MNIST, the larger of the datasets that need no account or patience.

    python -m smh_jax.main --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist

ResNet-8 at 14 x 14 pixels and 25% of its variables: about three minutes on 2 CPU cores; test
accuracy about 90.7%.
Without internet, `python scripts/prepare_fashion_mnist.py --source=DIR` prepares the data first.
Variants: configs/fashion_mnist.py:depth=20,image_size=28,target_size=27000 or :method=dense
"""

from ml_collections import ConfigDict

from configs import small
from smh_jax.config import DataConfig, arguments


def get_config(text: str = "") -> ConfigDict:
    """Arguments: depth, image_size, epochs, method, target_size, hashed, seed."""
    args = arguments.parse(
        text,
        depth=8,
        image_size=14,
        epochs=10.0,
        method="smh",
        target_size=18_750,
        hashed="all",
        seed=0,
    )
    return small.run_config(
        args,
        model=f"cifar_resnet{args.depth}",
        data=DataConfig(
            name="fashion_mnist",
            image_size=args.image_size,
            batch_size=128,
            eval_batch_size=1000,
        ),
        optimizer={
            "name": "momentum",
            # The best for smh and dense of 0.2, 0.4, 0.8 and 1.6, on held-out training images, as
            # is no augmentation in so few epochs: experiments/results/tuning_reduced.md.
            "learning_rate": 0.8,
            "schedule": "one_cycle",
            "weight_decay": 1e-4,
            "clip_norm": 1.0,
        },
        epochs=args.epochs,
        log_every_steps=100,
        eval_every_epochs=2,
        checkpoint_every_steps=500,
    )
