"""EfficientNets on ImageNet, the setting of the paper's Tables 1 to 3 (Tan & Le's recipe).

    python -m smh_jax.main --config=configs/imagenet_efficientnet.py --workdir=gs://BUCKET/b2

on every host of a TPU v3 slice of 32 cores (4x4). Expected time of B2: 21 hours at the paper's 6060
images a second, by multiply-adds four times that for B4 and 19 times for B6; not measured by us.
The paper's accuracies with learnable scales (fixed ones are 0.2 to 1.4 points lower):

    variables   B0     B1     B2     B3     B4     B5     B6
    2.0M        73.1%  74.2%  74.9%  75.5%  76.6%
    3.0M        74.0%  76.5%  77.1%                78.3%
    5.0M               76.8%  77.8%  78.6%  79.2%
    5.3M               76.9%  77.8%  78.6%  79.2%  78.6%  80.1%   (read off a figure)
    7.9M                             79.1%  79.7%
    9.3M                             79.1%  79.5%
    dense       76.3%  78.8%

and of B2 at 5.3M / 7.9M next to random hashing: SMH 77.4% / 78.2%, 1 hash 76.2% / 77.3%,
2 hashes 76.5% / 77.5%, 10 hashes 77.0% / 77.9%.

Variants: configs/imagenet_efficientnet.py:variant=b4,target_size=5000000,scale=fixed or
:variant=b0,method=dense; random hashing: :method=multi_hash and
--config.method.options.num_hashes=2.
On another slice: :variant=b5,accelerator=v5litepod-16, by which a device takes as many images at
once as fit its memory.
On fewer than 8 devices: --config.batch_norm=synced, and a smaller --config.data.batch_size.
"""

from ml_collections import ConfigDict

from configs import imagenet
from smh_jax.config import arguments
from smh_jax.config.names import check_known

_BATCH_SIZE = 2048
# How many images a core of v3 takes at once, by the TPU compiler (benchmarks/results/
# tpu_compile.md).
_IMAGES_ON_V3 = {
    "b0": 1392, "b1": 792, "b2": 424, "b3": 168, "b4": 80, "b5": 40, "b6": 24, "b7": 10
}  # fmt: skip


def get_config(text: str = "") -> ConfigDict:
    """Arguments: variant (b0 to b7), method, target_size, hashed, scale, seed, accelerator.

    The accelerator decides in how many microbatches a device takes its images of a step, and
    nothing else: batch and rates stay the recipe's.
    """
    args = arguments.parse(
        text,
        variant="b2",
        method="smh",
        target_size=5_300_000,
        hashed="all",
        scale="learnable",
        seed=0,
        accelerator="v3-32",
    )
    check_known(f"variant={args.variant}", args.variant, _IMAGES_ON_V3)
    return imagenet.run_config(
        args,
        model=f"efficientnet_{args.variant}",
        data={
            "preprocessing": "resnet",
            "augmentation": "autoaugment_v0",
            "batch_size": _BATCH_SIZE,
        },
        optimizer={
            "name": "rmsprop",
            "learning_rate": 0.016,
            "schedule": "staircase",
            "warmup_epochs": 5.0,
            "decay_every_epochs": 2.4,
            "decay_factor": 0.97,
            "weight_decay": 1e-5,
            "label_smoothing": 0.1,
            "ema_decay": 0.9999,
            "accumulate_steps": imagenet.microbatches(
                args.accelerator, _BATCH_SIZE, _IMAGES_ON_V3[args.variant]
            ),
        },
        epochs=350,
        batch_norm="grouped",
        batch_norm_group_size=8,
    )
