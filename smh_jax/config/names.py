"""Checks of the names that a user wrote; what to say of one that is not known."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Checks a name that a user wrote.

    Args:
        what: the thing named, with the name as the user wrote it: "model name='resnt50'".
        name: the name itself.
        known: every name that is allowed.

    Raises:
        ValueError: unless the name is known; the message lists the near ones, or all.
    """
    known = tuple(known)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(known) or 'none'}"
    raise ValueError(f"{what} is unknown; {hint}")


def check_choice(field: str, value: Any, choices: Sequence[str]) -> None:
    """Raises ValueError unless a field's value is one of a few choices."""
    if value not in choices:
        raise ValueError(f"{field}={value!r} must be one of {', '.join(choices)}")
