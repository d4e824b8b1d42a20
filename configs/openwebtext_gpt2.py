"""GPT-2 small on web pages, at the rates of GPT-3's smallest (Brown et al. 2020, table 2.1).

    python -m smh_jax.main --config=configs/openwebtext_gpt2.py --workdir=gs://BUCKET/gpt2

on every host of a TPU v3 slice of 32 cores (4x4), each with the tokens in ~/openwebtext; not run by
us. `python -m scripts.prepare_text --name=c4/webtextlike --output=~/openwebtext` makes them of the
catalogue's pages that are chosen as OpenWebText's were.

Variants: configs/openwebtext_gpt2.py:size=medium,target_size=36000000 or :method=dense
"""

from ml_collections import ConfigDict

from configs import methods
from smh_jax import models
from smh_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    arguments,
    to_config_dict,
)


def get_config(text: str = "") -> ConfigDict:
    """Arguments: size (small, medium, large, xl), epochs, method, target_size, hashed, seed."""
    args = arguments.parse(
        text,
        size="small",
        epochs=10.0,
        method="smh",
        target_size=12_400_000,
        # Each row is one place's: small and better stored (experiments/results/README.md).
        hashed="^(?!positions)",
        seed=0,
    )
    model = f"gpt2_{args.size}"
    return to_config_dict(
        Config(
            task="next_token",
            model=ModelConfig(model, models.default_options(model) | {"dtype": "bfloat16"}),
            method=methods.method_config(args),
            data=DataConfig(
                name="tokens:~/openwebtext",
                context_length=1024,
                # Half a million tokens.
                batch_size=512,
                eval_batch_size=64,
            ),
            optimizer=OptimizerConfig(
                name="adamw",
                # 0.0006 for a batch of 512.
                learning_rate=3e-4,
                beta2=0.95,
                schedule="cosine",
                warmup_epochs=args.epochs / 100,
                weight_decay=0.1,
                weight_decay_on="weights",
                weight_decay_exclude="bias$|scale$",
                # Of generated weights as on small data; not tuned here.
                **{"clip_norm": 1.0, **methods.rates(args.method, "adamw")},
                # Two windows at once on each of 32 cores, which take 3.4 of 15.5 GiB by the TPU
                # compiler (benchmarks/results/tpu_compile.md).
                accumulate_steps=8,
            ),
            epochs=args.epochs,
            seed=args.seed,
            log_every_steps=100,
            eval_every_epochs=1,
            checkpoint_every_steps=1000,
        )
    )
