"""Tables of exported files: bytes and accuracy."""

import math
import statistics

from experiments import markdown
from experiments.tables.kinds import label
from scripts.page_tables.committed import num_weights, reported


def precisions() -> str:
    """Bytes and accuracy of exported files."""
    rows = []
    for record in reported("shipping"):
        for run in record.runs[:1]:
            if not record.row.precisions:
                continue
            dense = f"{4 * num_weights(record):,}"
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
