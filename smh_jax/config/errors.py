"""What can go wrong in a run that was set up well; commands tell it in one line."""


class DivergedError(RuntimeError):
    """The loss or the gradient was no longer a finite number."""


class PeerError(RuntimeError):
    """A computation over all processes failed, as it does when one of them has ended."""
