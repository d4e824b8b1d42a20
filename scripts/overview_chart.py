"""The chart of accuracy against size that README and docs show: our runs, not the paper's."""

import io
import re

import matplotlib
from matplotlib.figure import Figure

from experiments.tables.kinds import label
from scripts.page_tables.committed import reported
from smh_jax.training.pictures.colors import color_of

_STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.3, "legend.frameon": False, "svg.hashsalt": "smh_jax", "svg.fonttype": "none",
}  # fmt: skip
_SHOWN = ("smh", "width_multiplier", "hash_10", "hash_1", "low_rank", "tensor_train", "tucker")


def draw() -> Figure:
    """Accuracy at 10%, 25% and 50% of the variables; error bars are deviations over seeds."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        points: dict[str, dict[int, tuple[float, float]]] = {}
        for record in (*reported("figure6"), *reported("table1")):
            row = record.row
            if row.group == "ResNet-8" and record.runs:
                share = record.size / 75_002
                near = min((0.1, 0.25, 0.5, 1.0), key=lambda target: abs(share - target))
                points.setdefault(row.series, {})[near] = (record.mean, record.stddev)
        dense, deviation = points["dense"][1.0]
        axes.axhline(dense, color=color_of("dense"), lw=1, ls="--")
        axes.axhspan(dense - deviation, dense + deviation, color=color_of("dense"), alpha=0.15)
        axes.annotate("uncompressed, 100%", (0.01, dense - deviation), fontsize=8, va="top",
                      xycoords=("axes fraction", "data"))  # fmt: skip
        for index, series in enumerate(_SHOWN):
            # Side by side, so that the bars do not hide each other.
            shift = 1 + 0.022 * (index - len(_SHOWN) / 2)
            shares = sorted(points[series])
            means, deviations = zip(*(points[series][share] for share in shares), strict=True)
            axes.errorbar(
                [share * shift for share in shares], means, deviations, marker="o", ms=4, lw=1.2,
                capsize=2, color=color_of(label(series)), label=label(series),
                zorder=3 if series == "smh" else 2,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks([0.1, 0.25, 0.5], ["10%", "25%", "50%"])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="trainable variables, of ResNet-8's 75,002", ylabel="test accuracy (%)")
        axes.set_title(
            "Fashion-MNIST at 14 x 14 pixels, 3 epochs; 3 seeds, bars are ± 1 standard deviation",
            fontsize=9,
        )
        figure.legend(loc="outside right center", fontsize=8)
    return figure


def draw_svg() -> str:
    """The chart as a file; the same results give the same bytes."""
    with matplotlib.rc_context(_STYLE):
        file = io.StringIO()
        draw().savefig(file, format="svg", metadata={"Date": None})
        return _on_any_processor(file.getvalue())


def _on_any_processor(svg: str) -> str:
    """Without the last digits of positions, in which processors differ, and names made of them."""
    svg = re.sub(r"\d+\.\d{4,}", lambda match: f"{float(match[0]):.3f}", svg)
    names = dict.fromkeys(re.findall(r'id="([a-z][0-9a-f]{10})"', svg))
    for number, name in enumerate(names):
        svg = svg.replace(name, f"n{number}")
    return svg
