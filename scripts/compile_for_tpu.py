"""Compiles training steps for a TPU slice, on a machine without one (Linux on x86-64).

    pip install -c constraints.txt -e '.[tpu-compile]'
    python -m scripts.compile_for_tpu --config=configs/imagenet_efficientnet.py --topology=v3:4x4

compiles the very step that the trainer would run there and reports whether it fits into the cores'
memory, its FLOPs, bytes, all-reduced bytes and the compiler's estimate of its cycles. Nothing is
run: these are the compiler's numbers, not measurements. One to ten minutes and some 4 GiB each;
--memory_only tells in a tenth of the time whether it fits. Several at once, one after the other:

    ... --config=A --config.data.batch_size=512 --also='B:variant=50' --also='C --config.epochs=9'

What --output holds already is not compiled again, unless the program has changed.
"""

import os
import shlex
import sys

# The machine's own accelerators, if any, are not asked for.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from absl import flags, logging
from ml_collections import config_flags

from smh_jax import cli
from smh_jax.config import from_config_dict
from smh_jax.config.config_files import read_config

CONFIG = config_flags.DEFINE_config_file("config", None, "What to compile.", lock_config=True)
ALSO = flags.DEFINE_multi_string("also", [], "Another config file, with its overrides.")
TOPOLOGY = flags.DEFINE_string("topology", "v3:4x4", "Generation, and chips in each direction.")
MEMORY_ONLY = flags.DEFINE_bool("memory_only", False, "Ends the compiler before it writes code.")
OUTPUT = flags.DEFINE_string("output", None, "JSON file of results, which are resumed.")
flags.mark_flag_as_required("config")


def main(_: list[str]) -> None:
    """Compiles what the results do not hold, and prints the table."""
    from smh_jax import tpu_compiler

    tpu_compiler.libtpu_version()
    overrides = [argument for argument in sys.argv if argument.startswith("--config.")]
    first = shlex.join([config_flags.get_config_filename(flags.FLAGS["config"]), *overrides])
    configs = {first: from_config_dict(CONFIG.value)}
    configs |= {text: read_config(text) for text in ALSO.value}
    results = tpu_compiler.Results(OUTPUT.value)
    rows = {}
    for number, (name, config) in enumerate(configs.items(), start=1):
        logging.info("%d of %d: %s", number, len(configs), name)
        rows[name] = results.add(name, config, TOPOLOGY.value, memory_only=MEMORY_ONLY.value)
    print(tpu_compiler.table(rows))


if __name__ == "__main__":
    cli.run(main, keeps_programs=False)
