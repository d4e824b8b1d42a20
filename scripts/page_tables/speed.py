"""Tables of time and memory."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import tpu_compile
from experiments import markdown
from experiments.row import ROOT
from scripts.page_tables.committed import (
    benchmark_rows,
)
from smh_jax.training.pictures.names import model_name


def value_range(rows: Sequence[Mapping[str, Any]], method: str, key: str) -> str:
    values = [row[key] for row in rows if row["method"] == method]
    return f"{min(values):.2f} to {max(values):.2f}"


def convolutional_steps() -> list[dict[str, Any]]:
    """Training steps of the models of the paper's kind."""
    return [row for row in benchmark_rows("training_step") if not row["model"].startswith("vit")]


def speed() -> str:
    """What generating weights costs, per method."""
    steps, products = convolutional_steps(), benchmark_rows("materialize")
    rows = [
        [
            name,
            value_range(products, method, "forward_backward_ratio"),
            value_range(steps, method, "ratio"),
        ]
        for name, method in (
            ("SMH", "smh"),
            ("SMH, Kronecker", "smh, Kronecker"),
            ("SMH, 4 blocks", "smh, 4 blocks"),
            ("1 hash", "1 hash"),
            ("2 hashes", "2 hashes"),
            ("10 hashes", "10 hashes"),
        )
    ]
    text = (
        "Medians on 2 CPU cores, smallest to largest over the models: the time to generate all "
        "weights of EfficientNet-B0 to B6, forward and backward, as a multiple of the bare matrix "
        "products, and that of a training step (ResNet-32, EfficientNet-B0 and B2) as a multiple "
        "of the dense step."
    )
    return f"{text}\n\n" + markdown.table(["", "generating", "training step"], rows)


def feathermap() -> str:
    """Generated weights here and in PyTorch, next to each framework's dense model."""
    measured = benchmark_rows("peer")
    rows = [
        [
            f"{row['what']}, {model_name(row['model'])} at {row['side']} pixels, batch "
            f"{row['batch_size']}",
            f"{_METHODS_OF_PEERS[row['method']]}, {row['framework']}",
            f"{row['milliseconds']:,.0f}",
            f"{row['ratio']:.2f}" * (row["method"] != "dense"),
            row["ratio_quartiles"] * (row["method"] != "dense"),
        ]
        for row in measured
    ]
    text = (
        "Medians of processor time, and multiples of the same framework's dense model with their "
        "quartiles; 10% of the variables on both sides, the same number."
    )
    headings = ["", "", "processor ms", "x dense", "quartiles"]
    return f"{text}\n\n" + markdown.table(headings, rows, text=(0, 1, 4))


_METHODS_OF_PEERS = {
    "dense": "dense",
    "smh": "SMH",
    "smh, all at once": "SMH, all weights at once",
    "smh, on the fly": "SMH, on the fly",
    "FeatherMap": "FeatherMap's way",
    "FeatherMap, all at once": "FeatherMap's way, all weights at once",
    "FeatherMap, on the fly": "FeatherMap's way, layer by layer",
}


def on_a_tpu() -> str:
    """What generating weights adds to a step, by the TPU compiler."""
    compiled = _compiled()
    rows: list[list[str]] = []
    for name, config in tpu_compile.FAMILIES.items():
        row = compiled.get(f"{config} {tpu_compile.TOPOLOGY}")
        if row is None:
            continue
        model, kind = name.split(", ", 1)
        if kind == "dense":
            dense = row
        more = (row["flops"] / dense["flops"], row["cycles"] / dense["cycles"])
        ratios = ["", ""] if kind == "dense" else [f"{ratio:.3f}" for ratio in more]
        cycles = f"{row['cycles'] / 1e6:.1f}"
        rows.append([model, kind, f"{row['num_variables']:,}", cycles, *ratios])
    text = (
        f"The TPU compiler's estimate of a step at the recipe's batch on {tpu_compile.TOPOLOGY}, "
        "and multiples of the dense step."
    )
    headings = ["", "", "variables", "Mcycles", "operations, x dense", "cycles, x dense"]
    return f"{text}\n\n" + markdown.table(headings, rows, text=(0, 1))


# What Google Cloud calls slices of 16 chips, and the software of their machines, by topology.
_ACCELERATORS = {tpu_compile.TOPOLOGY: "v3-32", **tpu_compile.ACCELERATORS}
_RUNTIMES = {
    "v3:4x4": "tpu-ubuntu2204-base",
    "v4:2x2x4": "tpu-ubuntu2204-base",
    "v5e:4x4": "v2-alpha-tpuv5-lite",
    "v5p:2x2x4": "v2-alpha-tpuv5",
    "v6e:4x4": "v2-alpha-tpuv6e",
}


def _compiled() -> dict[str, Any]:
    """What the TPU compiler said, by config and topology."""
    path = ROOT / "benchmarks" / "results" / "tpu_compile.json"
    return json.loads(path.read_text())["rows"]


def presets() -> str:
    """In how many parts a device of each slice takes its images of a large EfficientNet."""
    compiled = _compiled()
    variants = list(dict.fromkeys(variant for variant, _ in tpu_compile.PRESETS))
    rows = []
    for topology, accelerator in tpu_compile.ACCELERATORS.items():
        found = [
            compiled[f"{tpu_compile.PRESETS[variant, topology]} {topology}"] for variant in variants
        ]
        limit = f"{found[0]['limit_bytes'] / 2**30:.1f}"
        cells = [f"{row['parts']}: {row['memory_bytes'] / 2**30:.1f}" for row in found]
        rows.append([f"`{accelerator}`", limit, *cells])
    text = (
        "Parts in which a device takes its 128 images, and the GiB that this needs, by the TPU "
        "compiler."
    )
    headings = ["accelerator", "GiB there are", *(variant.upper() for variant in variants)]
    return f"{text}\n\n" + markdown.table(headings, rows, text=(0,))


def slices() -> str:
    """What the recipes take of each generation's memory, by the TPU compiler."""
    compiled, rows = _compiled(), []
    for topology, accelerator in _ACCELERATORS.items():
        found = [compiled.get(f"{config} {topology}") for config in tpu_compile.NEWER.values()]
        known = [row for row in found if row]
        cells = [
            "" if row is None else f"{row['memory_bytes'] / 2**30:.1f} for {row['batch_per_core']}"
            for row in found
        ]
        if known:
            limit = f"{known[0]['limit_bytes'] / 2**30:.1f}"
            rows.append([topology, f"`{accelerator}`, `{_RUNTIMES[topology]}`", limit, *cells])
    text = (
        "GiB of a device that a step takes at the recipe's batch, for the images of a device, by "
        "the TPU compiler (the code counted as 0.5 where it was not written); a v3 slice of 16 "
        "chips has 32 devices, the others 16. Accelerators and runtimes are Google's names."
    )
    headings = ["slice", "`--accelerator`, `--runtime`", "GiB there are", *tpu_compile.NEWER]
    return f"{text}\n\n" + markdown.table(headings, rows, text=(0, 1))


# Hyper-threads of the four hosts of a v3 slice of 32 cores, and what is taken for the speed of one.
_THREADS, _OF_A_CORE = 4 * 96, 0.5


def input_speed() -> str:
    """Whether the hosts of a slice prepare as many images as its cores take."""
    rows = []
    for row in benchmark_rows("input_pipeline"):
        speed = row["images_per_second"]
        kind = row["library"]
        if kind == "smh_jax":
            kind += f", {row['preprocessing']}, {row['augmentation']}, {row['dtype']}"
        slice_speed = _THREADS * _OF_A_CORE * speed
        rows.append([kind, f"{speed:,.0f}", f"{row['ratio']:.2f}", f"{slice_speed:,.0f}"])
    read = min(
        row["read_per_second"]
        for row in benchmark_rows("input_pipeline")
        if row.get("read_per_second")
    )
    text = (
        "ImageNet's JPEGs (500 x 375 pixels) to training images of 224 pixels, per second of "
        "processor time, and what four hosts of 96 hyper-threads would prepare if a hyper-thread "
        f"does half of what a core does here. Reading records alone: {read:,.0f} a second."
    )
    headings = ["", "images a second", "x decoding alone", "4 hosts"]
    return f"{text}\n\n" + markdown.table(headings, rows)


def transformers_on_a_tpu() -> str:
    """Steps of transformers, dense and generated, by the TPU compiler."""
    compiled, rows, of_dense = _compiled(), [], {}
    for (label, topology), config in tpu_compile.TRANSFORMERS.items():
        row, (model, kind) = compiled[f"{config} {topology}"], label.split(", ")
        # Dense rows come first.
        ratio = row["cycles"] / of_dense.setdefault((model, topology), row["cycles"])
        rows.append(
            [
                *(model, topology, kind, f"{row['batch_per_core']} in {row['parts']}"),
                f"{row['memory_bytes'] / 2**30:.1f}",
                f"{row['all_reduced_bytes'] / 1e6:,.0f}",
                f"{row['cycles'] / 1e6:,.1f}",
                "" if kind == "dense" else f"{ratio:.3f}",
            ]
        )
    text = (
        "A step at the recipe's batch by the TPU compiler: the examples of a device and in how "
        "many parts it takes them, GiB of its memory, what it sums with the others, and the "
        "estimated cycles."
    )
    headings = ["", "slice", "", "examples", "GiB", "all-reduced MB", "Mcycles", "x dense"]
    return f"{text}\n\n" + markdown.table(headings, rows, text=(0, 1, 2, 3))


def transformers() -> str:
    """What a Vision Transformer costs with generated weights."""
    steps = {
        row["method"]: row for row in benchmark_rows("training_step") if row["model"] == "vit_s16"
    }
    memory = {row["method"]: row for row in benchmark_rows("memory") if row["model"] == "vit_b16"}
    rows = [
        [
            label,
            f"{steps[method]['milliseconds'] / 1e3:,.1f}",
            f"{steps[method]['ratio']:.2f}",
            *(f"{memory[method][key]:,.0f}" for key in ("variables_mib", "checkpoint_mib")),
            *(
                f"{memory[method][f'inference_{key}_mib']:,.0f}"
                for key in ("arguments", "temporaries")
            ),
        ]
        for label, method in (("dense", "dense"), ("SMH", "smh"))
    ]
    text = (
        "At 10% of the variables. A step of ViT-S/16 is of 16 images of 224 pixels on one CPU "
        "core; memory is ViT-B/16's, in MiB, by XLA's own analysis, of a checkpoint with its "
        "optimizer's state and of one image's inference with weights generated on the fly."
    )
    headings = [
        *("", "step, s", "x dense", "variables", "checkpoint"),
        *("inference: arguments", "temporaries"),
    ]
    return f"{text}\n\n" + markdown.table(headings, rows)
