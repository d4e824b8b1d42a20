"""Adapters on frozen weights against training all of them; not in the paper.

A dense ResNet-8 of Fashion-MNIST is adapted to inverted and to rotated images, a dense GPT-2 of
Python's sources to what Python's help says about them. Each method has its own rate, of a search
(`experiments.tables.adapter_rates`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.experiment import Claim, Experiment, View
from experiments.row import RUN_OF, Row
from experiments.tables import kinds, transformers
from experiments.tables.small_scale import REDUCED, RESULTS, searched_rates

# Adapters, and the dense model with all of its weights trained on.
KINDS = ("smh", "low_rank", "dense")
SERIES = {
    "smh": "adapter, SMH",
    "low_rank": "adapter, low rank of each layer",
    "dense": "all weights",
}
RATES_FILE = "adapter_rates_reduced.json"
_LANGUAGE = transformers.BASES[1]


@dataclasses.dataclass(frozen=True)
class Case:
    """What is adapted to what.

    Attributes:
        name: of its rows.
        title: in reports.
        base: the row of the dense model.
        config: of the runs that adapt it.
        sizes: variables of adapters, about 3% and 10% of the weights.
        changes: what differs from the recipe of the base.
        rates: at which each kind is tried.
        held_out: the splits of the search, without the test set.
    """

    name: str
    title: str
    base: Row
    config: str
    sizes: tuple[int, int]
    changes: Mapping[str, Any]
    rates: Mapping[str, tuple[float, ...]]
    held_out: Mapping[str, str]

    def row(self, kind: str, size: int | None, rate: float, **fields: Any) -> Row:
        """A row of a kind; the size is that of an adapter."""
        start = "init_from" if kind == "dense" else "frozen_from"
        overrides = {
            **self.changes,
            start: RUN_OF + self.base.name,
            "optimizer.learning_rate": rate,
            # The scales of differences start at 0, and have to leave it.
            **({} if kind == "dense" else {"optimizer.scale_rate": 1.0}),
            **fields.pop("overrides", {}),
        }
        fields = {"name": f"adapters-{self.name}-{kind}{f'-{size}' if size else ''}"} | fields
        return kinds.row(
            *(self.config, self.name, kind),
            size=size,
            series=SERIES[kind],
            group=self.title,
            overrides=overrides,
            **fields,
        )


def _images(transform: str) -> Case:
    rates = (0.05, 0.1, 0.2, 0.4, 0.8)
    return Case(
        transform,
        f"Fashion-MNIST, {transform}",
        REDUCED.row("dense"),
        "configs/fashion_mnist.py:depth=8,epochs=1.0",
        (2_250, 7_500),
        {
            "data.transform": transform,
            "data.augmentation": "none",
            "optimizer.clip_norm": 1.0,
        },
        dict.fromkeys(KINDS, rates),
        {"data.train_split": "train[:50000]", "data.eval_split": "train[50000:]"},
    )


CASES = (
    _images("inverted"),
    _images("rotated"),
    Case(
        "help",
        "Python's help",
        _LANGUAGE.row("dense", 0, transformers.rates_of(_LANGUAGE)["dense"], seeds=(0, 1, 2)),
        "configs/text.py:epochs=2.0",
        (14_075, 46_915),
        {"data.name": "python_help", "optimizer.weight_decay": 0.0},
        {
            "smh": (6e-3, 1.2e-2, 2.4e-2, 4.8e-2),
            "low_rank": (6e-3, 1.2e-2, 2.4e-2, 4.8e-2),
            "dense": (1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2),
        },
        _LANGUAGE.held_out,
    ),
)
# Rates are searched for one transform and used for both.
SEARCHED = {"inverted": CASES[1].title}


def experiment(scale: str) -> Experiment:
    """All rows, at the scale 'reduced' alone; rates that are not searched are in the middle."""
    rows, claims, views = [], [], []
    for case in CASES:
        rates, fields = _rates_of(case), {"seeds": (0, 1, 2)}
        if case.base.name not in {row.name for row in rows}:
            rows.append(case.base)
        of_case = [case.row("dense", None, rates["dense"], **fields)]
        for size in case.sizes:
            smh, low_rank = (
                case.row(kind, size, rates[kind], **fields) for kind in ("smh", "low_rank")
            )
            of_case += [smh, low_rank]
            claims += [
                Claim(
                    f"{case.title}, {size:,} variables: {text}",
                    *(smh.name, than.name),
                    margin=margin,
                    paired=True,
                )
                for text, than, margin in (
                    ("SMH is better than low rank of each layer", low_rank, 0.0),
                    ("SMH is within half a point of training all weights", of_case[0], 0.5),
                )
            ]
        rows += of_case
        views.append(View("curves", case.title, tuple(row.name for row in of_case)))
    return Experiment(
        "adapters",
        scale,
        title="Adapters",
        question=(
            "A trained dense model and other data: how far do a few variables come, from which "
            "differences to all its weights are generated, and how far a product of two thin "
            "matrices for each layer? ResNet-8 of Fashion-MNIST, three epochs, is adapted to "
            "inverted and to rotated images in one; a GPT-2 of Python's sources to the texts of "
            "Python's help in two, where accuracy is the share of next characters that it tells."
        ),
        rows=tuple(rows),
        claims=tuple(claims),
        views=(*views, View("differences", "Differences of runs with the same seed")),
    )


def _rates_of(case: Case) -> dict[str, float]:
    """The learning rate of each kind."""
    own = {kind: rates[len(rates) // 2] for kind, rates in case.rates.items()}
    path = RESULTS / RATES_FILE
    if not path.exists():
        return own
    searched = searched_rates(path, SEARCHED.get(case.name, case.title))
    return own | {kind: searched[SERIES[kind]] for kind in KINDS if SERIES[kind] in searched}
