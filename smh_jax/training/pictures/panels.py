"""What a picture shows, as data: `drawing` puts it on paper, `page` into a browser."""

import dataclasses
import itertools
import math
from collections.abc import Iterable

import numpy as np

# Large and small ones that a number is written in.
_UNITS = ((1e6, "M"), (1e3, "k"), (1.0, ""))
_CLOSE = 1.3


@dataclasses.dataclass(frozen=True)
class Point:
    """A value `y` at `x`, with half the length of its error bar, and what hovering it says."""

    x: float
    y: float
    error: float | None = None
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Series:
    """Points of one color.

    Attributes:
        name: in the legend; '' has no entry there.
        marker: one of matplotlib's, '' for none.
        line: 'solid', 'dashed' or '' for points that are not joined.
        filled: whether markers are full.
    """

    name: str
    points: tuple[Point, ...]
    color: str
    marker: str = "o"
    line: str = "solid"
    filled: bool = True


@dataclasses.dataclass(frozen=True)
class Level:
    """A value to compare with, across the whole panel, with the band of its error."""

    y: float
    name: str = ""
    color: str = "#000000"
    error: float | None = None


@dataclasses.dataclass(frozen=True)
class Panel:
    """Series over one axis.

    Attributes:
        caption: which model, data and seeds, and what error bars are.
        ticks: positions along x and their texts; () leaves them to the axis.
        categories: names of x = 0, 1, ...; they are listed down the left side and values drawn
            to the right.
        dodge: whether series that share an x are drawn side by side.
        from_zero: whether the axis of values begins at 0.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    levels: tuple[Level, ...] = ()
    log_x: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    categories: tuple[str, ...] = ()
    dodge: bool = False
    from_zero: bool = False

    def positions(self, index: int) -> list[float]:
        """Where along x the points of a series are drawn."""
        xs = [point.x for point in self.series[index].points]
        if not self.dodge:
            return xs
        step = index - (len(self.series) - 1) / 2
        if self.log_x:
            return [x * 1.018**step for x in xs]
        width = 1.0 if self.categories else self._span() / 8
        return [x + step * width * min(0.2, 0.7 / len(self.series)) for x in xs]

    def _span(self) -> float:
        xs = [point.x for series in self.series for point in series.points]
        return (max(xs) - min(xs)) or 1.0


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A matrix as an image, with outlined regions.

    Attributes:
        values: [rows, columns]; nan where there is nothing.
        regions: a name and the corners (column, row) of each polygon; names of '' are not shown.
        colors: a color map of matplotlib's.
        limits: values at both ends of the color map.
        bar: label of the color bar; '' has none.
    """

    title: str
    caption: str
    values: np.ndarray
    regions: tuple[tuple[str, tuple[tuple[int, int], ...]], ...]
    colors: str
    limits: tuple[float, float]
    bar: str = ""


Picture = Panel | Matrix


def plain(value: float) -> str:
    """A number of three digits: 7.5k, 1.2M, 0.05."""
    unit, name = next((u, n) for u, n in _UNITS if u == 1 or abs(value) >= u)
    return f"{value / unit:.3g}{name}"


def by_factors(values: Iterable[float]) -> bool:
    """Whether values are spread by factors, which is for a logarithmic axis."""
    sorted_values = sorted(set(values))
    if not sorted_values or sorted_values[0] <= 0 or sorted_values[-1] < 4 * sorted_values[0]:
        return False
    pairs = list(itertools.pairwise(sorted_values))
    ratios, gaps = [b / a for a, b in pairs], [b - a for a, b in pairs]
    return len(pairs) == 1 or max(ratios) / min(ratios) < max(gaps) / min(gaps)


def near_values(values: Iterable[float]) -> list[float]:
    """The largest of each group of values that are nearly equal, such as sizes below a target."""
    ticks: list[float] = []
    first = 0.0
    for value in sorted(values):
        if ticks and value < _CLOSE * first:
            ticks[-1] = value
        else:
            ticks.append(value)
            first = value
    return ticks


def log_ticks(values: Iterable[float], at_values: bool = True) -> tuple[tuple[float, str], ...]:
    """Ticks of a logarithmic axis: 1, 2 and 5 of each power of ten, or a few more.

    With `at_values` the values themselves instead, where they are few and apart.
    """
    ticks = near_values(values)
    if not ticks:
        return ()
    low, high = ticks[0], ticks[-1]
    # A tenth of the axis is what a text needs.
    room = (high / low) ** 0.1
    if not at_values or any(b < room * a for a, b in itertools.pairwise(ticks)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        digits = (1, 2, 5) if high > 8 * low else (1, 1.5, 2, 3, 4, 5, 7)
        ticks = [d * 10.0**p for p in powers for d in digits]
        # Both ends lie within the ticks, or close to them.
        ticks = [tick for tick in ticks if low / _CLOSE < tick < high * _CLOSE]
    return tuple((tick, plain(tick)) for tick in ticks)
