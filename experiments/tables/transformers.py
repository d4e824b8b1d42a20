"""Transformers of generated weights against other ways of spending as many variables.

Not in the paper. A Vision Transformer classifies Fashion-MNIST, and a small GPT-2 tells the next
character of Python's sources. Each method has its own rate, of a search
(`experiments.tables.transformer_rates`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.experiment import Claim, Experiment, View
from experiments.row import Row
from experiments.tables import kinds
from experiments.tables.kinds import label
from experiments.tables.small_scale import RESULTS, searched_rates

KINDS = ("dense", "smh", "width_multiplier", "low_rank")
RATES_FILE = "transformer_rates_reduced.json"


@dataclasses.dataclass(frozen=True)
class Base:
    """A dense model and what it is trained on.

    Attributes:
        name: of its rows.
        title: in reports.
        config: a config file with the length of training.
        widths: width multipliers, by the number of variables of the model that is so narrow: about
            a tenth and a quarter of the dense one's.
        rates: at which every method is tried; the config's own is among them.
        held_out: the splits of the search, without the test set.
        hashed: what is generated; the rest is stored, small tables of which each row matters.
    """

    name: str
    title: str
    config: str
    widths: Mapping[int, float]
    rates: tuple[float, ...]
    held_out: Mapping[str, str]
    hashed: str

    def row(self, kind: str, size: int, rate: float, **fields: Any) -> Row:
        """A row of a kind at one of the sizes, which dense models do not have."""
        overrides = {"optimizer.learning_rate": rate, **fields.pop("overrides", {})}
        if kind == "width_multiplier":
            fields["width"] = self.widths[size]
        elif kind != "dense":
            name = f"{self.name}-{kind}-{size}"
            fields = {"name": name, "size": size, "hashed": self.hashed} | fields
        return kinds.row(
            self.config, self.name, kind, group=self.title, overrides=overrides, **fields
        )


# Of 116,362 and of 469,152 weights.
BASES = (
    Base(
        "vit",
        "Vision Transformer",
        "configs/fashion_mnist_vit.py:epochs=3.0",
        {12_610: 5 / 64, 30_538: 8 / 64},
        (4e-3, 8e-3, 1.6e-2, 3.2e-2),
        {"data.train_split": "train[:50000]", "data.eval_split": "train[50000:]"},
        "^(?!positions)",
    ),
    Base(
        "gpt2",
        "GPT-2",
        "configs/text.py:epochs=0.25",
        {45_444: 7 / 64, 123_984: 12 / 64},
        (2.4e-2, 4.8e-2, 9.6e-2, 0.192),
        {"data.train_split": "train[:90%]", "data.eval_split": "train[90%:]"},
        "^(?!embed|positions)",
    ),
)


def experiment(scale: str) -> Experiment:
    """All rows, at the scale 'reduced' alone; rates that are not searched are the config's."""
    rows, claims, views = [], [], []
    for base in BASES:
        rates = rates_of(base)
        fields = {"seeds": (0, 1, 2)}
        of_base = [base.row("dense", 0, rates["dense"], **fields)]
        for size in base.widths:
            smh, *others = (base.row(kind, size, rates[kind], **fields) for kind in KINDS[1:])
            of_base += [smh, *others]
            claims += [
                Claim(
                    f"{base.title} of {size:,} variables: SMH is better than {label(row.series)}",
                    smh.name,
                    row.name,
                    paired=True,
                )
                for row in others
            ]
        rows += of_base
        views.append(View("curves", base.title, tuple(row.name for row in of_base)))
    return Experiment(
        "transformers",
        scale,
        title="Transformers",
        question=(
            "Are generated weights the better way to spend a tenth or a quarter of the variables? "
            "The Vision Transformer has four blocks of width 48 and sees Fashion-MNIST at 14 x 14 "
            "pixels, the GPT-2 four of width 96 and characters of Python's sources; its accuracy "
            "is the share of next characters that it tells."
        ),
        rows=tuple(rows),
        claims=tuple(claims),
        views=(*views, View("differences", "Differences of runs with the same seed")),
    )


def rates_of(base: Base) -> dict[str, float]:
    """The learning rate of each kind."""
    path = RESULTS / RATES_FILE
    # Until they are searched, what dense models are trained with.
    own = dict.fromkeys(KINDS, base.rates[1])
    return own | (searched_rates(path, base.title) if path.exists() else {})
