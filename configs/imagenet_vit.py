"""Vision Transformers on ImageNet in the recipe of DeiT (Touvron et al. 2021, table 9).

    python -m smh_jax.main --config=configs/imagenet_vit.py --workdir=gs://BUCKET/vit

on every host of a TPU v3 slice of 32 cores (4x4); not run by us. Of DeiT's augmentation this has
crops, flips and RandAugment, and not mixup, cutmix, erasing and repeated examples. DeiT's
accuracies of the dense models, with all of them: 72.2% Ti, 79.8% S, 81.8% B.

Variants: configs/imagenet_vit.py:variant=b,target_size=8600000 or :method=dense
"""

from ml_collections import ConfigDict

from configs import imagenet, methods
from smh_jax.config import arguments


def get_config(text: str = "") -> ConfigDict:
    """Arguments: variant (ti, s, b), method, target_size, hashed, scale, seed."""
    args = arguments.parse(
        text,
        variant="s",
        method="smh",
        target_size=5_500_000,
        # Each row is one place's: small and better stored (experiments/results/README.md).
        hashed="^(?!positions)",
        scale="learnable",
        seed=0,
    )
    return imagenet.run_config(
        args,
        model=f"vit_{args.variant}16",
        data={"preprocessing": "resnet", "augmentation": "randaugment", "batch_size": 1024},
        optimizer={
            "name": "adamw",
            # 0.0005 for 512 images.
            "learning_rate": 2.5e-4,
            "schedule": "cosine",
            "warmup_epochs": 5.0,
            "weight_decay": 0.05,
            # Vectors and what is added to every image's tokens.
            "weight_decay_exclude": "bias$|scale$|class_token|positions",
            "label_smoothing": 0.1,
            # As on small images; not tuned on ImageNet.
            **methods.rates(args.method, "adamw"),
        },
        epochs=300,
    )
