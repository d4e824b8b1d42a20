"""Integers in as few bits as their frequencies allow: an ANS coder and its tables.

The coder is constriction's, whose output may change between its releases: what is stored is called
by its version of the format, and a file of the present one is among the tests. All integers of a
file are one stream of 32-bit words. A table gives the frequencies of one array's integers, in whole
numbers alone, so that every machine reads the same: the lowest integer plus 128, how many follow
it, and for each a byte: 0, or 16 times the base-2 logarithm of how often it occurs, to which what
makes the largest of them 255 is added.
"""

from collections.abc import Sequence

import constriction
import numpy as np

# 16 numbers per octave, times 256, rounded once and for all: no machine's exponential is asked.
_MANTISSAS = np.array(
    [256, 267, 279, 292, 304, 318, 332, 347, 362, 378, 395, 412, 431, 450, 470, 490], np.int64
)
_PER_OCTAVE = 16
_OFFSET = 128
# Integers that are decoded at once.
_BLOCK = 2**20
# The stream gives as many integers as are asked for. Of those of which 99.9% are 0, a byte holds
# 700.
_MOST_PER_BYTE, _SPARE = 2**11, 2**20


def encode(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The stream, uint32 [words], and the tables, uint8 [bytes], of arrays of int8 integers."""
    coder, tables = constriction.stream.stack.AnsCoder(), []
    # The coder is a stack: what is coded last is decoded first.
    for array in reversed(arrays):
        flat = np.ravel(array).astype(np.int32)
        if not flat.size:
            continue
        low, codes = _table(flat)
        tables.append(np.array([low + _OFFSET, len(codes) - 1, *codes], np.uint8))
        coder.encode_reverse(flat - low, _model(codes))
    words = coder.get_compressed()
    return words, np.concatenate([np.zeros(0, np.uint8), *reversed(tables)])


class Decoder:
    """Takes the arrays of a stream out of it again, one by one."""

    def __init__(self, words: np.ndarray, tables: np.ndarray) -> None:
        """Reads what `encode` gave."""
        if words.size and words[-1] == 0:
            raise ValueError("the coded integers end in a word of 0: damaged")
        self._coder = constriction.stream.stack.AnsCoder(np.ascontiguousarray(words, np.uint32))
        self._tables, self._position = tables, 0
        self._left = _SPARE + _MOST_PER_BYTE * (words.nbytes + tables.nbytes)

    def take(self, size: int) -> np.ndarray:
        """The next array, int8 [size].

        Raises:
            ValueError: if its table is cut off, or of no integers at all, or if there are more
                integers than any honest stream of that length holds.
        """
        if not size:
            return np.zeros(0, np.int8)
        self._left -= size
        if self._left < 0:
            raise ValueError("there are far more coded integers than their bytes could hold")
        low, bins = (int(x) for x in self._read(2))
        codes, low = self._read(bins + 1), low - _OFFSET
        if low + bins > 127 or not codes[0] or not codes[-1]:
            raise ValueError("a table of frequencies is damaged")
        model, array = _model(codes), np.zeros(size, np.int8)
        for first in range(0, size, _BLOCK):
            block = array[first : first + _BLOCK]
            # The coder gives 4 bytes for each.
            block[:] = self._coder.decode(model, block.size) + low
        return array

    def finish(self) -> None:
        """Raises ValueError unless all has been taken."""
        if not self._coder.is_empty() or self._position != self._tables.size:
            raise ValueError("there are more, or other, coded integers than leaves")

    def _read(self, count: int) -> np.ndarray:
        begin, self._position = self._position, self._position + count
        if self._position > self._tables.size:
            raise ValueError("a table of frequencies is cut off")
        return self._tables[begin : self._position]


def _table(flat: np.ndarray) -> tuple[int, np.ndarray]:
    """The lowest integer, and the codes of the frequencies of it and all to the highest."""
    low = int(flat.min())
    counts = np.bincount(flat - low)
    codes = 255 + np.rint(_PER_OCTAVE * np.log2(np.maximum(counts, 1) / counts.max()))
    return low, np.where(counts > 0, np.maximum(codes, 1), 0).astype(np.uint8)


def _model(codes: np.ndarray) -> constriction.stream.model.Categorical:
    octaves, rests = np.divmod(np.maximum(codes.astype(np.int64), 1) - 1, _PER_OCTAVE)
    # The coder wants two integers at least: one that does not occur is added.
    frequencies = np.append(np.where(codes > 0, _MANTISSAS[rests] << octaves, 0), 0)
    # Whole numbers of at most 24 bits, which floats hold exactly.
    return constriction.stream.model.Categorical(frequencies.astype(np.float64), perfect=False)
