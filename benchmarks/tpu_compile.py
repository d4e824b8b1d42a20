"""Every recipe's step in the eyes of the TPU compiler: python -m benchmarks.tpu_compile

Compiles, for a v3 slice of 32 cores (4x4), the steps of the paper's Tables 1 and 3, of the other
families, of the largest batches that fit, of some for newer slices, of models of which cores share
a replica, and of transformers; nothing is run. Hours on two CPU cores, in order of importance; it
can be stopped at any time and resumes from what benchmarks/results/tpu_compile.json holds. Writes
that and tpu_compile.md alongside it; --report writes the report alone.
"""

import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from absl import flags, logging

from experiments import markdown, paper
from experiments.tables import table1 as table1_rows
from experiments.tables import table3
from smh_jax import cli, tpu_compiler
from smh_jax.config.config_files import read_config
from smh_jax.config.files import write_json, write_text
from smh_jax.config.names import check_known
from smh_jax.tpu_compiler.results import number

SECTIONS = ("table1", "table3", "families", "newer", "largest", "spread", "transformers")
# Other commands have flags of these names; tests import several into one process.
ONLY = flags.DEFINE_list(
    "only", list(SECTIONS), f"Parts to compile: {', '.join(SECTIONS)}.", allow_override=True
)
REPORT = flags.DEFINE_bool("report", False, "Compiles nothing, writes the report.")
OUTPUT = flags.DEFINE_string(
    "output", "benchmarks/results/tpu_compile.json", "Results.", allow_override=True
)

TOPOLOGY = "v3:4x4"
_CORES = 32
# Slices of 16 chips, which are 16 devices to JAX.
ACCELERATORS = {
    "v4:2x2x4": "v4-32", "v5e:4x4": "v5litepod-16", "v5p:2x2x4": "v5p-32", "v6e:4x4": "v6e-16"
}  # fmt: skip
NEWER_TOPOLOGIES = tuple(ACCELERATORS)
# The kinds of row of the paper's Table 1, by the methods' names here.
_TABLE1 = dict(zip(("smh", "1 hash", "2 hashes", "10 hashes"), table1_rows.KINDS, strict=True))

Rows = Mapping[str, tpu_compiler.Analysis]
# Of a config and a topology; the last argument is whether memory suffices.
Compile = Callable[[str, str, bool], tpu_compiler.Analysis]


def efficientnet(variant: str, target_size: int, method: str = "smh") -> str:
    """The config, with overrides, of a variant."""
    config = f"configs/imagenet_efficientnet.py:variant={variant}"
    if method == "dense":
        return f"{config},method=dense"
    if method == "smh":
        return f"{config},target_size={target_size}"
    hashes = f"--config.method.options.num_hashes={method.split()[0]}"
    return f"{config},method=multi_hash,target_size={target_size} {hashes}"


def at_batch(variant: str, target_size: int, batch_per_core: int) -> str:
    """The same with another batch, taken whole by each core."""
    return (
        f"{efficientnet(variant, target_size)} --config.data.batch_size={_CORES * batch_per_core} "
        "--config.optimizer.accumulate_steps=1"
    )


def preset(variant: str, topology: str) -> str:
    """An EfficientNet at its largest size, in the microbatches chosen for a newer slice."""
    size = 6_600_000 if variant == "b7" else 9_300_000
    return f"{efficientnet(variant, size)},accelerator={ACCELERATORS[topology]}"


def table1() -> Iterator[tuple[str, int | None, str]]:
    """Method, target size and config of each row of Table 1, and of the dense model."""
    yield "dense", None, efficientnet("b2", 0, "dense")
    for target_size in table1_rows.PAPER_SIZES:
        for method in _TABLE1:
            yield method, target_size, efficientnet("b2", target_size, method)


TABLE3 = {
    f"B{model[-1]} at {size / 1e6:.1f}M": efficientnet(model.removeprefix("efficientnet_"), size)
    for model, sizes in table3.TARGETS.items()
    for size in sizes
}
FAMILIES = {
    "ResNet-50, dense": "configs/imagenet_resnet.py:method=dense",
    "ResNet-50, SMH": "configs/imagenet_resnet.py",
    "ResNet-50, SMH, product in bfloat16": (
        "configs/imagenet_resnet.py --config.method.options.product_dtype=bfloat16"
    ),
    "ResNet-50, SMH, 13 blocks": "configs/imagenet_resnet.py --config.method.options.blocks=13",
    # Of a quarter and of half of the variables besides.
    "ResNet-50, SMH, elastic of three sizes": (
        "configs/imagenet_resnet.py --config.method.options.matrix=square "
        "--config.elastic.sizes=1175000,2350000"
    ),
    "MobileNetV2, dense": "configs/imagenet_mobilenet.py:variant=v2,method=dense",
    "MobileNetV2, SMH": "configs/imagenet_mobilenet.py:variant=v2,target_size=1750000",
    "MobileNetV3, dense": "configs/imagenet_mobilenet.py:variant=v3_large,method=dense",
    "MobileNetV3, SMH": "configs/imagenet_mobilenet.py:variant=v3_large",
    "EfficientNet-B0, dense": efficientnet("b0", 0, "dense"),
    "EfficientNet-B0, SMH": efficientnet("b0", 3_000_000),
}
# The batches are the recipes', over half as many devices.
NEWER = {
    "ResNet-50, dense": FAMILIES["ResNet-50, dense"],
    "ResNet-50, SMH at 10%": "configs/imagenet_resnet.py:target_size=2555703",
    "EfficientNet-B0, SMH": FAMILIES["EfficientNet-B0, SMH"],
}
PRESETS = {
    (variant, topology): preset(variant, topology)
    for variant in ("b4", "b5", "b6", "b7")
    for topology in NEWER_TOPOLOGIES
}


# The largest batch per core that was seen to fit, at the largest of Table 3's targets below the
# variant's size: looked for along the line through the last two that were compiled.
LARGEST = {
    f"{variant.upper()} at {size / 1e6:.1f}M, {batch} images": at_batch(variant, size, batch)
    for variant, size, batch in (
        ("b0", 5_000_000, 1392), ("b1", 5_000_000, 792), ("b2", 7_900_000, 424),
        ("b3", 9_300_000, 168), ("b4", 9_300_000, 80), ("b5", 9_300_000, 40), ("b6", 9_300_000, 24),
        ("b7", 6_600_000, 10),
    )
}  # fmt: skip


# Depth and width of ResNets of 1.5 billion weights, and the parts in which a core takes its images:
# the activations of the deeper one need them.
_WIDE = ((50, 8, 1), (152, 5, 8))


def wide_resnet(
    depth: int, width: int, parts: int, topology: str, model_devices: int = 1, method: str = "smh"
) -> str:
    """A ResNet that is so many times as wide, with 8 images per core."""
    overrides = {
        "model.options.width_multiplier": float(width),
        "data.batch_size": 8 * _SLICES[topology],
        **({} if parts == 1 else {"optimizer.accumulate_steps": parts}),
        **_spread(model_devices),
    }
    size = "method=dense" if method == "dense" else "target_size=150000000"
    return _with(f"configs/imagenet_resnet.py:variant={depth},{size}", overrides)


def _spread(model_devices: int) -> dict[str, object]:
    """The overrides by which so many cores share a replica."""
    if model_devices == 1:
        return {}
    return {
        "parallel.backend": "shard_map",
        "parallel.model_devices": model_devices,
        "batch_norm": "local",
    }


def _with(config: str, overrides: Mapping[str, object]) -> str:
    return " ".join([config, *(f"--config.{name}={value}" for name, value in overrides.items())])


# Cores of the slices on which models are spread, and of them those of one host.
_SLICES = {TOPOLOGY: _CORES, "v5p:2x2x4": 16}
_ON_A_HOST = {TOPOLOGY: 8, "v5p:2x2x4": 4}
SPREAD = {
    (f"{name}, {topology}", topology): config
    for topology, cores in _ON_A_HOST.items()
    for name, config in (
        *(
            (f"ResNet-{wide[0]} x {wide[1]}, {label}", wide_resnet(*wide, topology, *how))
            for wide in _WIDE
            for label, how in (("SMH, spread", (cores,)), ("SMH", ()), ("dense", (1, "dense")))
        ),
        ("B7, SMH, spread", _with(efficientnet("b7", 6_600_000), _spread(cores))),
        ("B7, SMH", efficientnet("b7", 6_600_000)),
    )
}


# GPT-2's vocabulary, which a step of its recipe has to know; written for the compiler alone.
_VOCABULARY = pathlib.Path("build/gpt2_tokens/vocabulary.json")
_TOKENS = f"--config.data.name=tokens:{_VOCABULARY.parent}"
_VIT, _TEXTS = "configs/imagenet_vit.py:variant=b", "configs/openwebtext_gpt2.py"
# At the recipes' batches.
TRANSFORMERS = {
    (label, topology): config
    for topologies, configs in (
        (
            (TOPOLOGY,),
            {
                "ViT-B/16, dense": f"{_VIT},method=dense",
                "ViT-B/16, SMH at 10%": f"{_VIT},hashed=all,target_size=8656765",
            },
        ),
        (
            (TOPOLOGY, "v5e:4x4"),
            {
                "GPT-2, dense": f"{_TEXTS}:method=dense {_TOKENS}",
                "GPT-2, SMH at 10%": f"{_TEXTS}:hashed=all,target_size=12443980 {_TOKENS}",
            },
        ),
    )
    for topology in topologies
    for label, config in configs.items()
}


def compile_all(sections: list[str], compile_step: Compile) -> None:
    """Compiles what the chosen sections ask for, the most important first."""
    if "table1" in sections:
        dense, smh, *others = (config for _, _, config in table1())
        for config in (smh, dense, *others):
            compile_step(config, TOPOLOGY, False)
    if "table3" in sections:
        # The largest model first: where it fits, so do the others.
        for config in reversed(TABLE3.values()):
            compile_step(config, TOPOLOGY, True)
    if "families" in sections:
        for config in FAMILIES.values():
            compile_step(config, TOPOLOGY, False)
    if "newer" in sections:
        newer = list(itertools.product(NEWER.values(), NEWER_TOPOLOGIES))
        presets = [(config, topology) for (_, topology), config in PRESETS.items()]
        # First whether all of them fit, which is known soon.
        for config, topology in (*newer, *presets):
            compile_step(config, topology, True)
        for config, topology in newer:
            compile_step(config, topology, False)
    if "largest" in sections:
        for config in LARGEST.values():
            compile_step(config, TOPOLOGY, True)
    if "spread" in sections:
        for (_, topology), config in SPREAD.items():
            compile_step(config, topology, True)
    if "transformers" in sections:
        _VOCABULARY.parent.mkdir(parents=True, exist_ok=True)
        write_json(_VOCABULARY, {"num_tokens": 50_257, "dtype": "uint16"})
        for memory_only, ((_, topology), config) in itertools.product(
            (True, False), TRANSFORMERS.items()
        ):
            compile_step(config, topology, memory_only)


def report(rows: Rows) -> str:
    """The results in Markdown; what is not compiled yet is left out."""
    newer = {
        f"{label} on {topology}": f"{config} {topology}"
        for label, config in NEWER.items()
        for topology in NEWER_TOPOLOGIES
    } | {
        f"{variant.upper()}, SMH on {topology}": f"{config} {topology}"
        for (variant, topology), config in PRESETS.items()
    }
    transformers = {
        f"{label}, {topology}": config if topology == TOPOLOGY else f"{config} {topology}"
        for (label, topology), config in TRANSFORMERS.items()
    }
    versions = sorted({f"libtpu {row.libtpu}" for row in rows.values()})
    parts = [
        "# Training steps in the eyes of the TPU compiler",
        f"Compiled for {TOPOLOGY} ({_CORES} cores) without a TPU, by {' and '.join(versions)}; "
        "nothing was run. Memory is the compiler's layout and its code (counted as 0.5 GiB where "
        "marked ~: there the compiler was ended before it wrote the code). Cycles and the samples "
        "per second that they imply are the compiler's estimates, without collectives and input; "
        "they serve to compare steps with each other, not with measurements. Nor does it estimate "
        "gathers, sorts and scatters, of which hashes are made: theirs are lower bounds, with the "
        "number of elements that are gathered and scattered alongside them.\n"
        "`python -m benchmarks.tpu_compile` compiles what is missing.",
        "## EfficientNet-B2 (the paper's Table 1)\n\n" + _table1_report(rows),
        "## SMH at each row of the paper's Table 3, at the recipe's batch\n\n"
        + _table(rows, TABLE3),
        "## Other families\n\n" + _table(rows, FAMILIES),
        "## Newer slices\n\nOf 16 chips, each one device to JAX, at the recipe's batch. Cycles of "
        "different generations are not to be compared. B4 to B7 in the microbatches that "
        "`accelerator=` in their config chooses.\n\n" + _table(rows, newer),
        "## Largest batch per core that was seen to fit, SMH\n\n"
        "Memory is not quite affine in the batch, so that a somewhat larger one may fit.\n\n"
        + _table(rows, LARGEST),
        "## Replicas that cores share\n\n"
        "Spread, the cores of a host share a replica (`parallel.model_devices`): each holds its "
        "part of the pools and of the optimizer's state, and makes its part of each layer's "
        "weights just before they are used. On v5p a core is a chip. All-reduced is what is summed "
        "over all cores or groups of them.\n\n" + _spread_report(rows),
        "## Transformers\n\nSlices of v5e have 16 devices, with twice the examples each.\n\n"
        + _table(rows, transformers),
    ]
    return "\n\n".join(parts) + "\n"


def _table(rows: Rows, configs: Mapping[str, str]) -> str:
    return tpu_compiler.table({k: rows[config] for k, config in configs.items() if config in rows})


def _spread_report(rows: Rows) -> str:
    lines = []
    for (name, topology), config in SPREAD.items():
        # Those of another topology keep its name.
        row = rows.get(config if topology == TOPOLOGY else f"{config} {topology}")
        if row is None:
            continue
        reduced = None
        if row.all_reduced_bytes is not None:
            reduced = row.all_reduced_bytes + row.group_reduced_bytes
        model_devices = _ON_A_HOST[topology] if "spread" in name else 1
        about = "" if row.code_bytes is not None or not row.fits else "~"
        lines.append(
            [
                *(name, str(row.cores), str(model_devices), str(row.batch_per_core)),
                *("yes" if row.fits else "no", about + number(row.memory_bytes, 2**30)),
                *(number(row.limit_bytes, 2**30), number(4 * row.num_weights, 1e6, 0)),
                *(number(reduced, 1e6, 0), number(row.all_gathered_bytes, 1e6, 0)),
                number(row.cycles, 1e6),
            ]
        )
    headings = (
        *("config", "cores", "cores of a replica", "batch per core", "fits", "memory, GiB"),
        *("limit, GiB", "weights MB", "all-reduced MB", "all-gathered MB", "Mcycles"),
    )
    return markdown.table(headings, lines)


def _table1_report(rows: Rows) -> str:
    dense = rows.get(efficientnet("b2", 0, "dense"))
    lines = []
    for method, target_size, config in table1():
        if (row := rows.get(config)) is None:
            continue
        ratio = row.cycles / dense.cycles if dense and row.cycles else None
        key = ("table1", "efficientnet_b2", _TABLE1.get(method), target_size)
        speed = paper.find(*key).speed if target_size else None
        speeds = [number(each, digits=0) for each in (row.samples_per_second, speed)]
        sizes = [f"{row.num_variables:,}", number(row.memory_bytes, 2**30)]
        costs = [number(row.all_reduced_bytes, 1e6), number(row.cycles, 1e6)]
        irregular = number(row.irregular, 1e6, 1)
        lines.append([method, *sizes, *costs, number(ratio, digits=3), irregular, *speeds])
    headings = (
        *("method", "variables", "memory, GiB", "all-reduced MB", "Mcycles, estimated", "x dense"),
        *("M gathered, scattered", "samples/s, estimated", "samples/s, paper's measurement"),
    )
    return markdown.table(headings, lines)


def main(_: list[str]) -> None:
    """Compiles what is missing and writes the report."""
    for section in ONLY.value:
        check_known(f"--only={section}", section, SECTIONS)
    results = tpu_compiler.Results(OUTPUT.value)
    report_path = pathlib.Path(OUTPUT.value).with_suffix(".md")

    def write_report() -> None:
        rows = {name.removesuffix(f" {TOPOLOGY}"): row for name, row in results.rows.items()}
        write_text(report_path, report(rows))

    def compile_step(config: str, topology: str, memory_only: bool) -> tpu_compiler.Analysis:
        logging.info("%s for %s%s", config, topology, " (memory only)" if memory_only else "")
        row = results.add(config, read_config(config), topology, memory_only=memory_only)
        write_report()
        return row

    if REPORT.value:
        write_report()
    else:
        compile_all(ONLY.value, compile_step)
    print(report_path.read_text())


if __name__ == "__main__":
    cli.run(main, keeps_programs=False)
