"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,)
) -> str:
    """A table whose columns are numbers, to the right, except those at the positions `text`."""
    marks = ["---" if index in text else "---:" for index in range(len(headings))]
    lines = [f"| {' | '.join(cells)} |" for cells in (headings, marks, *rows)]
    return "\n".join([lines[0].replace("|  |", "| |"), *lines[1:]])
