"""Text as a model of characters sees it; needs neither TensorFlow nor JAX."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

# Tab, new line and what ASCII prints.
ASCII = ("\t", "\n", *map(chr, range(32, 127)))


def encode(text: str, characters: Sequence[str], about: str = "the text") -> np.ndarray:
    """The number of each character, int32 [length].

    Args:
        text: to be encoded.
        characters: those that there are, in order of their numbers.
        about: what the text is, for errors.

    Raises:
        ValueError: for a character that is not among them.
    """
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    known = np.asarray([ord(character) for character in characters], np.uint32)
    order = np.argsort(known)
    places = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    numbers = order[places]
    if np.any(wrong := known[numbers] != codes):
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{about} has {int(wrong.sum()):,} unknown characters, the first of them "
            f"{text[first]!r} at {first:,}; known are {''.join(characters)!r}"
        )
    return numbers.astype(np.int32)


def decode(tokens: Sequence[int] | np.ndarray, characters: Sequence[str]) -> str:
    """The text of numbers of characters."""
    return "".join(characters[int(token)] for token in tokens)


@dataclasses.dataclass(frozen=True)
class TokenInput:
    """What a shipped model of text knows of its inputs.

    Attributes:
        length: tokens in an input; shorter texts are padded behind.
        num_tokens: how many different ones there are.
        encoding: tiktoken's name of what makes them of texts; None of characters, which are the
            model's classes, and where it is not known.
    """

    length: int
    num_tokens: int
    encoding: str | None = None

    task: ClassVar[str] = "next_token"
    input_name: ClassVar[str] = "tokens"
    dtype: ClassVar[str] = "int32"

    def __post_init__(self) -> None:
        for field in ("length", "num_tokens"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{field}={value!r} must be a whole number of at least 1")
        if not isinstance(self.encoding, str | None):
            raise ValueError(f"encoding={self.encoding!r} must be a name or None")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return (self.length,)

    @property
    def about(self) -> Mapping[str, Any]:
        """What the shape of an input does not say."""
        return {"num_tokens": self.num_tokens, "encoding": self.encoding}

    def normalize(self, tokens: np.ndarray) -> np.ndarray:
        """int32 [batch, length] of whole numbers of the same shape.

        Raises:
            ValueError: for tokens of a different shape, or that there are none of.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or tokens.shape[1] != self.length or tokens.dtype.kind not in "iu":
            raise ValueError(
                f"tokens of {tokens.dtype} {tokens.shape} must be whole numbers "
                f"[batch, {self.length}]"
            )
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.num_tokens:
            raise ValueError(
                f"tokens from {tokens.min()} to {tokens.max()} must be from 0 to "
                f"{self.num_tokens - 1}"
            )
        return tokens.astype(np.int32)
