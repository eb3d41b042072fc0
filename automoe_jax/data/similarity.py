"""Lines that resemble one of a few others: Jaccard similarity of their sets of character n-grams,
without comparing every pair.

A line that is similar by at least t to a held-out line of n distinct n-grams shares at least t · n
of these, and so one of any n - ⌈t · n⌉ + 1 of them (prefix filtering: Chaudhuri, Ganti and
Kaushik, "A Primitive Operator for Similarity Joins in Data Cleaning", 2006). Only these, the rarest
ones, are indexed; what they find is compared exactly. Time is linear in the text.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from automoe_jax.data.cleaning import duplicate_key

_LENGTH = 4  # characters of an n-gram
_CHUNK = 20_000  # lines
# Odd multipliers of the n-gram's hash, modulo 2⁶⁴.
_FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64
)


class _Grams(NamedTuple):
    """The distinct n-grams of some lines, line by line."""

    line: np.ndarray  # [G]
    code: np.ndarray  # [G] hash
    size: np.ndarray  # [lines] number of n-grams


def similar(lines: Sequence[str], held_out: Sequence[str], least: float) -> dict[int, int]:
    """For each line with a similarity of at least `least` to a held-out line, by index, the index
    of the most similar one. Compared are the letters and digits, by `duplicate_key`.
    """
    held = _grams(held_out)
    index = _Index(held, least)
    found: dict[int, int] = {}
    for start in range(0, len(lines), _CHUNK):
        grams = _grams(lines[start : start + _CHUNK])
        for line, other in index.similar(grams):
            found[start + line] = other
    return found


class _Index:
    """The rarest n-grams of held-out lines."""

    def __init__(self, held: _Grams, least: float):
        self._least, self._sizes = least, held.size
        self._codes, column, frequency = np.unique(
            held.code, return_inverse=True, return_counts=True
        )
        shape = (len(held.size), len(self._codes))
        self._matrix = sparse.csr_array(
            (np.ones(len(column), np.int32), (held.line, column)), shape=shape
        )
        order = np.lexsort((frequency[column], held.line))
        starts = np.cumsum(held.size) - held.size
        rank = np.arange(len(order)) - np.repeat(starts, held.size)
        prefix = held.size - np.ceil(least * held.size - 1e-9).astype(int) + 1
        rare = order[rank < np.repeat(prefix, held.size)]
        by_code = rare[np.argsort(held.code[rare], kind="stable")]
        self._rare_code, self._rare_line = held.code[by_code], held.line[by_code]

    def similar(self, grams: _Grams) -> Iterator[tuple[int, int]]:
        """(line, the most similar held-out line) of those that are similar enough."""
        first = np.searchsorted(self._rare_code, grams.code, "left")
        number = np.searchsorted(self._rare_code, grams.code, "right") - first
        line = np.repeat(grams.line, number)
        offset = np.arange(len(line)) - np.repeat(np.cumsum(number) - number, number)
        other = self._rare_line[np.repeat(first, number) + offset]
        size, held_size = grams.size[line], self._sizes[other]
        near = np.minimum(size, held_size) >= self._least * np.maximum(size, held_size) - 1e-9
        pairs = np.unique(np.stack([line[near], other[near]], 1), axis=0)
        line, other = pairs[:, 0], pairs[:, 1]
        shared = self._shared(grams, line, other)
        value = shared / (grams.size[line] + self._sizes[other] - shared)
        order = np.argsort(value, kind="stable")  # the most similar one last
        for i in order[value[order] >= self._least - 1e-9]:
            yield int(line[i]), int(other[i])

    def _shared(self, grams: _Grams, line: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The number of n-grams that each pair of lines shares."""
        if not len(line):
            return np.zeros(0)
        place = np.searchsorted(self._codes, grams.code)
        place[place == len(self._codes)] = 0
        known = self._codes[place] == grams.code
        matrix = sparse.csr_array(
            (np.ones(known.sum(), np.int32), (grams.line[known], place[known])),
            shape=(len(grams.size), len(self._codes)),
        )
        return np.asarray((matrix[line] * self._matrix[other]).sum(axis=1)).ravel()


def _grams(lines: Sequence[str]) -> _Grams:
    # A key shorter than an n-gram is one, filled up with NULs; these also separate the keys.
    keys = [duplicate_key(line) for line in lines]
    lengths = np.maximum([len(key) for key in keys] or [0], _LENGTH)[: len(keys)]
    padded = "".join(key.ljust(length, "\0") for key, length in zip(keys, lengths, strict=True))
    codes = np.frombuffer(padded.encode("utf-32-le"), np.uint32).astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([codes, np.zeros(_LENGTH - 1, np.uint64)]), _LENGTH
    )
    mixed = (windows * _FACTORS).sum(axis=1, dtype=np.uint64)
    mixed ^= mixed >> np.uint64(29)
    line = np.repeat(np.arange(len(keys)), lengths)
    last = np.repeat(np.cumsum(lengths), lengths) - _LENGTH  # of the windows within the line
    inside = np.arange(len(line)) <= last
    line, mixed = line[inside], mixed[inside]
    order = np.lexsort((mixed, line))
    line, mixed = line[order], mixed[order]
    new = np.ones(len(line), bool)
    new[1:] = (line[1:] != line[:-1]) | (mixed[1:] != mixed[:-1])
    line, mixed = line[new], mixed[new]
    return _Grams(line, mixed, np.bincount(line, minlength=len(keys)))
