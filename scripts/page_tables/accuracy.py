"""Tables of accuracies."""

from experiments import markdown
from experiments.answers import difference
from experiments.experiment import Claim
from experiments.records import RATE, Record
from experiments.tables import elastic, shared
from experiments.tables.kinds import label
from experiments.tables.small_scale import DENSE_SIZES, REDUCED, best_rate
from scripts.page_tables.committed import SETTING, accuracy, of, reported


def methods() -> str:
    """Every method at 10% and 25%."""
    compared = {record.row.series for record in reported("figure6") if record.size < 40_000}
    compared |= {record.row.series for record in reported("table1") if record.size < 40_000}
    lines = []
    for series in compared:
        at = [
            of("figure6", series, size) or of("table1", series, size)
            for size in (REDUCED.tenth, REDUCED.quarter)
        ]
        lines.append((at[0].mean, [label(series), *map(accuracy, at)]))
    dense = [label("dense"), accuracy(of("figure6", "dense", None)), ""]
    rows = [dense, *(cells for _, cells in sorted(lines, reverse=True))]
    return f"{SETTING}\n\n" + markdown.table(["", "10% (dense: 100%)", "25%"], rows)


def sizes() -> str:
    """SMH at each size, and its distance to dense."""
    dense = of("figure6", "dense", None)
    rows = [["dense, 100%", f"{dense.size:,}", accuracy(dense), ""]]
    for share, size in (("50%", REDUCED.half), ("25%", REDUCED.quarter), ("10%", REDUCED.tenth)):
        record = of("figure6", "smh", size)
        mean, error = difference(Claim("", record.row.name, dense.row.name), (record, dense))
        cells = [f"{record.size:,}", accuracy(record), f"{mean:+.2f} ± {error:.2f}"]
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
        [label(record.row.series), f"{record.size:,}", f"{record.steps:,}", accuracy(record)]
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
    of_depth: dict[str, dict[str, list[Record]]] = {}
    for record in reported("elastic"):
        # A row of the run itself stands before those of its sizes.
        is_run = "elastic.sizes" in record.row.overrides and not record.row.elastic_size
        if not is_run:
            series = of_depth.setdefault(record.row.group, {})
            series.setdefault(record.row.series, []).append(record)
    parts = [
        "Fashion-MNIST at 14 x 14 pixels; test accuracy in percent, mean ± standard deviation of "
        "three seeds (scale `reduced`)."
    ]
    headings = ["", *(f"{100 * share:.3g}%" for share in elastic.SHARES)]
    for depth in elastic.DEPTHS:
        rows = [
            [f"{series}, epochs: {records[0].runs[0]['epochs']:g}", *map(accuracy, records)]
            for series, records in of_depth[f"ResNet-{depth}"].items()
        ]
        title = f"ResNet-{depth}, shares of its {DENSE_SIZES[depth]:,} weights:"
        parts += [title, markdown.table(headings, rows)]
    return "\n\n".join(parts)


def tasks_in_pools() -> str:
    """Tasks alone and in pools of several."""
    found = {(record.row.group, record.row.series): record for record in reported("shared")}
    alone = "a model of its own"
    tasks = [task for task, series in found if series == alone]
    columns = [alone, *(f"one pool of {count}" for count in shared.COUNTS)]
    counts = {len(record.runs) for record in found.values()}
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    rows = [
        [
            task.replace("fashion_mnist", "Fashion-MNIST").replace("_", ", "),
            *(accuracy(found.get((task, column))) for column in columns),
        ]
        for task in tasks
    ]
    text = (
        "ResNet-8 with 7,500 variables for each task, in as many steps; test accuracy in percent, "
        f"mean ± standard deviation of {seeds} seeds (scale `reduced`). Fashion-MNIST, at 14 x 14 "
        "pixels, has 10,000 test images, digits have 360."
    )
    return f"{text}\n\n" + markdown.table(["", *columns], rows)
