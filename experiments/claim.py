"""A claim about two rows of a table, which their runs decide (`experiments.answers`)."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Claim:
    """That a row is more accurate than another.

    Attributes:
        text: the claim in words.
        row, than: names of rows.
        margin: points of accuracy by which `row` may stay below `than`.
    """

    text: str
    row: str
    than: str
    margin: float = 0.0
