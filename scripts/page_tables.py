"""The tables of README and docs, each from results that are committed."""

import functools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import benchmark, tpu_compile
from experiments import catalogue, markdown, records, render
from experiments.answers import difference
from experiments.experiment import Claim
from experiments.records import RATE, RESULTS, Record
from experiments.row import ROOT
from experiments.tables import elastic, shared
from experiments.tables.kinds import label
from experiments.tables.small_scale import DENSE_SIZES, REDUCED, best_rate
from smh_jax.training.pictures.names import model_name

# What the accuracies of several tables are of.
SETTING = (
    "ResNet-8 (75,002 weights) on Fashion-MNIST at 14 x 14 pixels, three epochs, each method at "
    "its own best learning rate; test accuracy in percent, mean ± standard deviation of three "
    "seeds (scale `reduced`)."
)


@functools.cache
def reported(experiment: str) -> tuple[Record, ...]:
    """The committed records of an experiment at the reduced scale."""
    loaded = catalogue.load(experiment, "reduced")
    return records.read(loaded, records.path_of(loaded, RESULTS, ".json"))


@functools.cache
def benchmark_rows(name: str) -> tuple[dict[str, Any], ...]:
    """The rows of a committed benchmark, over those of its own cases that were measured."""
    content = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    measured = content["cases"]
    cases = [case for case in benchmark.load()[name].cases if case in measured]
    return tuple(row for case in cases for row in measured[case]["rows"])


def _of(experiment: str, series: str, size: int | None) -> Record | None:
    """The record of a series whose target is so many variables; None if there is none."""
    for record in reported(experiment):
        # Methods stay a little below their target.
        near = size is None or (record.runs and 0.94 * size < record.size <= size)
        if record.row.series == series and near and record.row.group == "ResNet-8":
            return record
    return None


def _num_weights(record: Record) -> int:
    """Of the base model, which is named in the row's group ('ResNet-8')."""
    return DENSE_SIZES[int(record.row.group.partition("-")[2])]


def _accuracy(record: Record | None) -> str:
    return "" if record is None else render.accuracy(record)


def methods() -> str:
    """Every method at 10% and 25%."""
    compared = {record.row.series for record in reported("figure6") if record.size < 40_000}
    compared |= {record.row.series for record in reported("table1") if record.size < 40_000}
    lines = []
    for series in compared:
        at = [
            _of("figure6", series, size) or _of("table1", series, size)
            for size in (REDUCED.tenth, REDUCED.quarter)
        ]
        lines.append((at[0].mean, [label(series), *map(_accuracy, at)]))
    dense = [label("dense"), _accuracy(_of("figure6", "dense", None)), ""]
    rows = [dense, *(cells for _, cells in sorted(lines, reverse=True))]
    return f"{SETTING}\n\n" + markdown.table(["", "10% (dense: 100%)", "25%"], rows)


def sizes() -> str:
    """SMH at each size, and its distance to dense."""
    dense = _of("figure6", "dense", None)
    rows = [["dense, 100%", f"{dense.size:,}", _accuracy(dense), ""]]
    for share, size in (("50%", REDUCED.half), ("25%", REDUCED.quarter), ("10%", REDUCED.tenth)):
        record = _of("figure6", "smh", size)
        mean, error = difference(Claim("", record.row.name, dense.row.name), (record, dense))
        cells = [f"{record.size:,}", _accuracy(record), f"{mean:+.2f} ± {error:.2f}"]
        rows.append([f"SMH, {share}", *cells])
    headings = ["", "variables", "test accuracy", "against dense"]
    return f"{SETTING} Differences with their standard error.\n\n" + markdown.table(headings, rows)


def rates() -> str:
    """The best learning rate of each method."""
    tried: dict[str, dict[float, float]] = {}
    for record in reported("tuning"):
        tried.setdefault(record.row.series, {})[record.row.overrides[RATE]] = record.mean
    rows = []
    for series, accuracies in tried.items():
        best = best_rate(series, accuracies)
        half, double = (accuracies[rate] - accuracies[best] for rate in (best / 2, best * 2))
        cells = [f"{best:g}", f"{accuracies[best]:.2f}", f"{half:+.2f}", f"{double:+.2f}"]
        rows.append([label(series), *cells])
    text = (
        "ResNet-8 on Fashion-MNIST, 10% of the variables (dense: all), three epochs, one cycle, "
        "one seed, accuracy in percent on 10,000 held-out training images; the last columns are "
        "the points won or lost at half and at twice the best rate."
    )
    headings = ["", "best rate per 256 examples", "accuracy", "half of it", "twice it"]
    return f"{text}\n\n" + markdown.table(headings, rows)


def routes() -> str:
    """From scratch, converted, distilled."""
    rows = [
        [label(record.row.series), f"{record.size:,}", f"{record.steps:,}", _accuracy(record)]
        for record in reported("shipping")
        if len(record.runs) == 3 and record.steps
    ]
    text = (
        "ResNet-8 on Fashion-MNIST at 14 x 14 pixels with crops and flips, SMH at 25%; test "
        "accuracy in percent, mean ± standard deviation of three seeds (scale `reduced`). The "
        "steps of the dense model that is converted, or that teaches, are not counted."
    )
    headings = ["", "variables", "steps", "test accuracy"]
    return f"{text}\n\n" + markdown.table(headings, rows)


def elastic_sizes() -> str:
    """Each size of elastic runs, and models of one size."""
    of_series: dict[str, list[Record]] = {}
    for record in reported("elastic"):
        # A row of the run itself stands before those of its sizes.
        is_run = "elastic.sizes" in record.row.overrides and not record.row.elastic_size
        if record.row.group == "ResNet-8" and not is_run:
            of_series.setdefault(record.row.series, []).append(record)
    rows = [
        [f"{series}, epochs: {records[0].runs[0]['epochs']:g}", *map(_accuracy, records)]
        for series, records in of_series.items()
    ]
    text = (
        "ResNet-8 on Fashion-MNIST at 14 x 14 pixels, shares of its 75,002 weights; test accuracy "
        "in percent, mean ± standard deviation of three seeds (scale `reduced`)."
    )
    shares = [100 * share for share in elastic.SHARES]
    return f"{text}\n\n" + markdown.table(["", *(f"{share:.3g}%" for share in shares)], rows)


def tasks_in_pools() -> str:
    """Tasks alone and in pools of several."""
    found = {(record.row.group, record.row.series): record for record in reported("shared")}
    alone = "a model of its own"
    tasks = [task for task, series in found if series == alone]
    columns = [alone, *(f"one pool of {count}" for count in shared.COUNTS)]
    rows = [
        [
            task.replace("fashion_mnist", "Fashion-MNIST").replace("_", ", "),
            *(_accuracy(found.get((task, column))) for column in columns),
        ]
        for task in tasks
    ]
    text = (
        "ResNet-8 with 7,500 variables for each task, in as many steps; test accuracy in percent, "
        "mean ± standard deviation of three seeds (scale `reduced`). Fashion-MNIST, at 14 x 14 "
        "pixels, has 10,000 test images, digits have 360."
    )
    return f"{text}\n\n" + markdown.table(["", *columns], rows)


def precisions() -> str:
    """Bytes and accuracy of exported files."""
    rows = []
    for record in reported("shipping"):
        for run in record.runs[:1]:
            if not record.row.precisions:
                continue
            dense = f"{4 * _num_weights(record):,}"
            cells = [
                f"{export['bytes']:,} B, {100 * export['accuracy']:.2f}%"
                for export in run["exports"].values()
            ]
            rows.append([label(record.row.series), dense, *cells])
    text = (
        "SMH at 10%: bytes of the exported file and its test accuracy, one seed; alongside, the "
        "bytes of all weights in float32."
    )
    headings = ["", "dense float32, B", "float32", "bfloat16", "int8", "int4"]
    return f"{text}\n\n" + markdown.table(headings, rows)


def _range(rows: Sequence[Mapping[str, Any]], method: str, key: str) -> str:
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
            _range(products, method, "forward_backward_ratio"),
            _range(steps, method, "ratio"),
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
    path = ROOT / "benchmarks" / "results" / "tpu_compile.json"
    compiled = json.loads(path.read_text())["rows"]
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
_SLICES = {
    "v3:4x4": ("v3-32", "tpu-ubuntu2204-base"),
    "v4:2x2x4": ("v4-32", "tpu-ubuntu2204-base"),
    "v5e:4x4": ("v5litepod-16", "v2-alpha-tpuv5-lite"),
    "v5p:2x2x4": ("v5p-32", "v2-alpha-tpuv5"),
    "v6e:4x4": ("v6e-16", "v2-alpha-tpuv6e"),
}


def slices() -> str:
    """What the recipes take of each generation's memory, by the TPU compiler."""
    path = ROOT / "benchmarks" / "results" / "tpu_compile.json"
    compiled = json.loads(path.read_text())["rows"]
    rows = []
    for topology, (accelerator, runtime) in _SLICES.items():
        found = [compiled.get(f"{config} {topology}") for config in tpu_compile.NEWER.values()]
        known = [row for row in found if row]
        cells = [
            "" if row is None else f"{row['memory_bytes'] / 2**30:.1f} for {row['batch_per_core']}"
            for row in found
        ]
        if known:
            limit = f"{known[0]['limit_bytes'] / 2**30:.1f}"
            rows.append([topology, f"`{accelerator}`, `{runtime}`", limit, *cells])
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


def good_for() -> str:
    """What the method is good for, and what not, with what was measured."""

    def against(series: str) -> str:
        ours = _of("figure6", "smh", REDUCED.tenth)
        theirs = _of("figure6", series, REDUCED.tenth) or _of("table1", series, REDUCED.tenth)
        mean, error = difference(Claim("", ours.row.name, theirs.row.name), (ours, theirs))
        return f"{mean:+.2f} ± {error:.2f}"

    steps = convolutional_steps()
    files = {
        (record.row.name, precision): f"{accuracy:.1f}% in {size:,.0f} B"
        for record in reported("frontier")
        for precision, size, accuracy, _ in record.exports
    }
    narrow = files["frontier-width_multiplier_25%-coded:0.5", "coded:0.5"]
    pruned = files["frontier-dense-pruned_90%-coded:1.0", "coded:1.0"]
    dense = files["frontier-dense-coded:1.5", "coded:1.5"]
    counts = sorted({len(record.runs) for record in reported("frontier") if record.runs})
    seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    converted = next(r for r in reported("shipping") if r.row.name == "shipping-converted")
    rows = [
        [
            "narrower layers (width multiplier)",
            f"{against('width_multiplier')} points",
            "Level in accuracy. The narrow model also computes less; SMH computes what the full "
            "model does, and keeps its shapes.",
        ],
        [
            "unstructured hashes",
            f"{against('hash_1')} (1), {against('hash_10')} (10)",
            "Level with 10 hashes. A training step takes SMH "
            f"{_range(steps, 'smh', 'ratio')} times the dense one, 10 hashes "
            f"{_range(steps, '10 hashes', 'ratio')} times.",
        ],
        [
            "low rank, Tucker",
            f"{against('low_rank')}, {against('tucker')}",
            "SMH is better at this size.",
        ],
        [
            "other networks in fewer bits",
            files["resnet8-smh-7500", "coded:0.125"],
            f"A network of half the width has {narrow}, dense weights that are pruned {pruned}, "
            f"and not pruned {dense}: SMH is for the smallest files (`docs/bytes.md`).",
        ],
        [
            "a trained model, without more training",
            f"{converted.mean:.0f}% accuracy",
            "Not for that: a converted model has to be fine-tuned.",
        ],
    ]
    text = (
        "SMH at 10% of ResNet-8 on Fashion-MNIST (scale `reduced`, three seeds; files of other "
        f"networks: {seeds}), where there is a sign the difference in points of test accuracy with "
        "its standard error:"
    )
    return f"{text}\n\n" + markdown.table(["instead of", "SMH", ""], rows, text=(0, 1, 2))


def smallest_files() -> str:
    """The smallest file of each kind of network at an accuracy."""
    kinds_of_network = ("dense", "width multiplier", "SMH")
    records_ = [record for record in reported("frontier") if record.runs]
    files = [
        (size, mean, record.row.series, precision)
        for record in records_
        for precision, size, mean, _ in record.exports
    ]

    def smallest(kind: str, least: float) -> tuple[float, str]:
        fitting = [f for f in files if f[2].startswith(kind) and f[1] >= least]
        if not fitting:
            return math.inf, "-"
        size, _, series, precision = min(fitting)
        network, *how = series.split(", ")
        how = [*filter(None, (network.removeprefix(kind).strip(), *how[:-1])), precision]
        if series.endswith("after training"):
            how.append("after training")
        return size, f"{size:,.0f} B: {', '.join(how)}"

    lines = []
    for least in (86.5, 87.0, 87.5, 88.0, 88.5, 89.0, 89.5, 90.0):
        found = [smallest(kind, least) for kind in kinds_of_network]
        best = min(found)
        cells = [f"**{text}**" if (size, text) == best else text for size, text in found]
        lines.append([f"{least}%", *cells])
    seeds = sorted({len(record.runs) for record in records_})
    text = (
        "The smallest file that has at least an accuracy, by kind of network; the smallest of all "
        "in bold. ResNet-8 on Fashion-MNIST (scale `reduced`), means of "
        f"{seeds[0] if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'} seeds: differences below "
        "0.3 points are noise. `coded:STEP` is what the file has, for which the network was "
        "trained unless it says 'after training'."
    )
    header = ["accuracy", "dense", "narrower (width multiplier)", "SMH"]
    return f"{text}\n\n" + markdown.table(header, lines, text=(0, 1, 2, 3))


# What is asked of files: a row and its precision, and those that it is compared with.
_WAYS = (
    ("coded in place of int8", "resnet8-smh-7500", "coded:0.08", "resnet8-smh-7500", "int8"),
    *(
        (
            "trained for the coder",
            f"frontier-SMH_10%-coded:{step}",
            f"coded:{step}",
            "resnet8-smh-7500",
            f"coded:{step}",
        )
        for step in ("0.125", "0.25")
    ),
    *(
        (
            f"distilled: {network.replace('_', ' ')}",
            f"frontier-{network}-distilled-coded:{step}",
            f"coded:{step}",
            f"frontier-{network}-coded:{step}",
            f"coded:{step}",
        )
        for network, step in (
            ("dense", "1.0"),
            ("width_multiplier_10%", "0.25"),
            ("width_multiplier_25%", "0.5"),
            ("SMH_10%", "0.25"),
            ("SMH_25%", "0.25"),
        )
    ),
    *(
        (
            f"pruned by half: {network.replace('_', ' ')}",
            f"frontier-{network}-pruned_50%-coded:0.5",
            "coded:0.5",
            f"frontier-{network}-coded:0.5",
            "coded:0.5",
        )
        for network in ("width_multiplier_25%", "SMH_25%")
    ),
    *(
        (
            f"dense, pruned by {share}%, against narrower layers",
            f"frontier-dense-pruned_{share}%-coded:1.0",
            "coded:1.0",
            f"frontier-width_multiplier_25%-coded:{step}",
            f"coded:{step}",
        )
        for share, step in (("80", "0.5"), ("90", "0.5"))
    ),
    (
        "SMH at 10% against narrower layers",
        "resnet8-smh-7500",
        "coded:0.08",
        "frontier-width_multiplier_25%-coded:1.0",
        "coded:1.0",
    ),
    (
        "dense in few bits against float32",
        "frontier-dense-coded:0.5",
        "coded:0.5",
        "resnet8-dense",
        "float32",
    ),
    (
        "dense, ternary against coded",
        "frontier-dense-ternary",
        "ternary",
        "frontier-dense-coded:1.5",
        "coded:1.5",
    ),
    (
        "dense, int3 against coded",
        "frontier-dense-int3",
        "int3",
        "frontier-dense-coded:1.0",
        "coded:1.0",
    ),
)


def ways_to_small_files() -> str:
    """What each way to make a file smaller gains or loses, seed by seed."""
    runs = {record.row.name: record.runs for record in reported("frontier")}

    def files(row: str, precision: str) -> dict[int, tuple[float, int]]:
        """Accuracy in percent and bytes, by seed."""
        exports = {run["seed"]: run["exports"].get(precision) for run in runs[row]}
        return {
            seed: (100 * file["accuracy"], file["bytes"]) for seed, file in exports.items() if file
        }

    rows = []
    for way, row, precision, than, than_precision in _WAYS:
        ours, theirs = files(row, precision), files(than, than_precision)
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            continue
        each = [ours[seed][0] - theirs[seed][0] for seed in seeds]
        gain = f"{statistics.fmean(each):+.2f}"
        if len(each) > 1:
            gain += f" ± {statistics.stdev(each) / math.sqrt(len(each)):.2f}"
        cells = [
            f"{statistics.fmean(side[seed][0] for seed in seeds):.2f}% in "
            f"{statistics.fmean(side[seed][1] for seed in seeds):,.0f} B"
            for side in (ours, theirs)
        ]
        rows.append([way, *cells, gain, str(len(seeds))])
    text = (
        "Test accuracy and bytes of files of which the first is made in another way than the "
        "second, and the points that it gains, seed by seed, with their standard error."
    )
    header = ["", "so", "and as", "gain", "seeds"]
    return f"{text}\n\n" + markdown.table(header, rows, text=(0, 1, 2))


TABLES: dict[str, Callable[[], str]] = {
    table.__name__: table
    for table in (
        elastic_sizes,
        feathermap,
        good_for,
        input_speed,
        methods,
        precisions,
        rates,
        routes,
        sizes,
        on_a_tpu,
        slices,
        smallest_files,
        speed,
        tasks_in_pools,
        transformers,
        ways_to_small_files,
    )
}
