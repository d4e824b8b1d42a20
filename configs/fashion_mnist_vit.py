"""A small Vision Transformer on Fashion-MNIST at 14 x 14 pixels: 49 patches of 2 x 2.

    python -m smh_jax.main --config=configs/fashion_mnist_vit.py --workdir=runs/fashion_mnist_vit

SMH at a quarter of the variables: minutes on 2 CPU cores.
Without internet, `python scripts/prepare_fashion_mnist.py --source=DIR` prepares the data first.
Variants: configs/fashion_mnist_vit.py:depth=6,patch_size=4,image_size=28 or :method=dense
"""

from ml_collections import ConfigDict

from configs import small
from smh_jax.config import DataConfig, arguments

MODEL = "vit_ti16"


def get_config(text: str = "") -> ConfigDict:
    """Arguments: depth, patch_size, image_size, epochs, method, target_size, hashed, seed."""
    args = arguments.parse(
        text,
        depth=4,
        patch_size=2,
        image_size=14,
        epochs=10.0,
        method="smh",
        target_size=29_000,
        # Each row is one place's: small and better stored (experiments/results/README.md).
        hashed="^(?!positions)",
        seed=0,
    )
    # Three heads of 16.
    options = {"depth": args.depth, "patch_size": args.patch_size, "width_multiplier": 0.25}
    return small.run_config(
        args,
        model=MODEL,
        model_options=options,
        data=DataConfig(
            name="fashion_mnist",
            image_size=args.image_size,
            batch_size=128,
            eval_batch_size=1000,
        ),
        optimizer={
            "name": "adamw",
            # The best of a search on held-out images:
            # experiments/results/transformer_rates_reduced.md.
            "learning_rate": 8e-3 if args.method == "dense" else 1.6e-2,
            "schedule": "cosine",
            "warmup_epochs": args.epochs / 10,
            "weight_decay": 0.05,
            "weight_decay_on": "weights",
            "weight_decay_exclude": "bias$|scale$|class_token|positions",
            "clip_norm": 1.0,
        },
        epochs=args.epochs,
        log_every_steps=100,
        eval_every_epochs=2,
        checkpoint_every_steps=500,
    )
