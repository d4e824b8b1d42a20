"""A report as data, before it is known whether it becomes Markdown or a page for browsers."""

import dataclasses
from collections.abc import Sequence

from smh_jax.training.pictures.panels import Picture


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells by row; columns are numbers except those at the positions `text`."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: Sequence[int] = (0,)


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report: a paragraph and list items in Markdown, a table, pictures."""

    title: str = ""
    text: str = ""
    table: Table | None = None
    items: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
