"""What to say of a name that is not known."""

import difflib
from collections.abc import Iterable


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
