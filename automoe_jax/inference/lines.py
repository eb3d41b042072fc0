"""Lines of text and batches of sentences, for every engine; imports no JAX.

A line beyond the longest bucket is translated in parts, without context between them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

# translations of token ids, in the given order; called after every batch with its sources
TranslateIds = Callable[[list[np.ndarray], Callable[[list[int]], Any]], list[np.ndarray]]


class Pieces(Protocol):
    """A tokenizer."""

    def encode(self, lines: Sequence[str]) -> list[np.ndarray]:
        """The int32 ids of each line, without BOS and EOS."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        ...

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """The texts of consecutive ids of the source, where ▁ is the space before a word."""
        ...

    def target_pieces(self, tokens: Sequence[int]) -> list[str]:
        """`pieces` of the target."""
        ...


def translate_lines(
    translate_ids: TranslateIds,
    tokenizer: Pieces,
    lines: Sequence[str],
    *,
    longest: int,
    progress: Callable[[int], Any] = lambda done: None,
) -> list[str]:
    """The translation of each line of text, in order, each a single line; a line without text gives
    an empty one.

    Lines are cleaned as the training text was. Lines of more than `longest` tokens are translated
    in parts. `progress` is called after every batch with the number of lines that it finished.
    """
    pieces, owner = parts_of(tokenizer, lines, longest)
    waiting = Counter(owner)
    progress(len(lines) - len(waiting))

    def finished(done: list[int]) -> None:
        before = len(waiting)
        for piece in done:
            waiting[owner[piece]] -= 1
            if not waiting[owner[piece]]:
                del waiting[owner[piece]]
        progress(before - len(waiting))

    translated: list[list[str]] = [[] for _ in lines]
    for i, ids in zip(owner, translate_ids(pieces, finished), strict=True):
        translated[i].append(tokenizer.decode(ids))
    return [" ".join(filter(None, parts)) for parts in translated]


def parts_of(
    tokenizer: Pieces, lines: Sequence[str], longest: int
) -> tuple[list[np.ndarray], list[int]]:
    """Token ids of parts of lines, of at most `longest` tokens, and the line of each part; a line
    without text has none.
    """
    pieces: list[np.ndarray] = []
    owner: list[int] = []
    for i, ids in enumerate(tokenizer.encode(lines)):
        for start in range(0, len(ids), longest):
            pieces.append(ids[start : start + longest])
            owner.append(i)
    return pieces, owner


class Batch(NamedTuple):
    """Sentences that are translated together."""

    bucket: int  # tokens, EOS included, that the longest of them may have
    members: list[int]

    @property
    def max_length(self) -> int:
        """Tokens of the longest translation, EOS included."""
        return longest_translation(self.bucket)


def longest_translation(bucket: int) -> int:
    """Tokens of the longest translation of a source in this bucket, EOS included."""
    return bucket * 3 // 2 + 10


def batches(lengths: Sequence[int], buckets: Sequence[int], most: int) -> Iterator[Batch]:
    """Batches of sentences sorted by length, EOS not counted, with a limit per batch; each sentence
    must fit into the last bucket with its EOS.
    """
    by_bucket: dict[int, list[int]] = {bucket: [] for bucket in buckets}
    for index in np.argsort(lengths, kind="stable"):
        bucket = next(bucket for bucket in buckets if lengths[index] < bucket)
        by_bucket[bucket].append(int(index))
    for bucket, members in by_bucket.items():
        for first in range(0, len(members), most):
            yield Batch(bucket, members[first : first + most])


def padded(
    sources: Sequence[np.ndarray], rows: int, length: int, eos_id: int, pad_id: int
) -> np.ndarray:
    """int32 [rows, length]: the sources with EOS, then pads; rows without a source are pads."""
    batch = np.full((rows, length), pad_id, np.int32)
    for row, source in zip(batch, sources, strict=False):
        row[: len(source) + 1] = [*source, eos_id]
    return batch
