"""Token pairs and their batches: few shapes, batches by token count, based on grain.

A batch is `{"source": [B, S], "target": [B, T]}`, int32. A row is a sentence's tokens, EOS, then
PAD. S = T is a bucket: the smallest of the configured lengths that holds the longer side with its
EOS. B is the number of sentences that fit into `tokens_per_batch` padded tokens, so a run has one
shape per bucket. If targets are classes, T is 1 and a row is the number of a class, without EOS.

Axes: B sentences · S source tokens · T target tokens.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence

import grain
import numpy as np
from etils import epath
from jaxtyping import Bool, Int, Int32, Int64

from automoe_jax.data.corpus import Pairs
from automoe_jax.data.labels import Labels
from automoe_jax.data.tokenizer import EOS, PAD, SeparateTokenizers, Tokenizer
from automoe_jax.errors import UserError
from automoe_jax.runtime.files import atomic_writer

Batch = dict[str, np.ndarray]
_ENCODED_TOGETHER = 10_000
# Batches of a bucket before it would end: more than any run needs.
_ENDLESS = 2**40


@dataclasses.dataclass(frozen=True, eq=False)
class TokenPairs:
    """Tokenised pairs as flat arrays: pair i is `tokens[offsets[i] : offsets[i + 1]]` on either
    side, without EOS.
    """

    source_tokens: Int32[np.ndarray, "source"]
    source_offsets: Int64[np.ndarray, "offsets"]  # [pairs + 1]
    target_tokens: Int32[np.ndarray, "target"]
    target_offsets: Int64[np.ndarray, "offsets"]  # [pairs + 1]
    # targets are classes, of one token each
    labelled: Bool[np.ndarray, ""] = dataclasses.field(default_factory=lambda: np.array(False))

    def __len__(self) -> int:
        return len(self.source_offsets) - 1

    def __getitem__(self, i: int) -> tuple[Int32[np.ndarray, "S"], Int32[np.ndarray, "T"]]:
        """(source tokens, target tokens) of pair `i`."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        source = self.source_tokens[self.source_offsets[i] : self.source_offsets[i + 1]]
        return source, self.target_tokens[self.target_offsets[i] : self.target_offsets[i + 1]]

    def lengths(self) -> Int64[np.ndarray, "pairs"]:
        """[pairs]: tokens of the longer side, EOS included."""
        return np.maximum(np.diff(self.source_offsets), np.diff(self.target_offsets)) + 1

    @classmethod
    def from_pairs(
        cls,
        pairs: Pairs,
        tokenizer: Tokenizer | SeparateTokenizers,
        longest: int,
        labels: Labels | None = None,
    ) -> tuple["TokenPairs", int]:
        """Pairs of at most `longest` tokens on either side, EOS included, and the number of longer
        pairs, which are left out.

        `labels`: the targets are names of these classes; longer sentences are cut instead.
        """
        encode_target = labels.encode if labels else tokenizer.encode_target
        source: list[np.ndarray] = []
        target: list[np.ndarray] = []
        fitting = 0
        for start in range(0, len(pairs), _ENCODED_TOGETHER):
            part = slice(start, start + _ENCODED_TOGETHER)
            encoded = list(
                zip(
                    tokenizer.encode(pairs.source[part]),
                    encode_target(pairs.target[part]),
                    strict=True,
                )
            )
            fits = [pair for pair in encoded if max(map(len, pair)) + 1 <= longest]
            fitting += len(fits)
            kept = (
                fits
                if labels is None
                else [(tokens[: longest - 1], label) for tokens, label in encoded]
            )
            source += [pair[0] for pair in kept]
            target += [pair[1] for pair in kept]
        return (
            cls(*_flat(source), *_flat(target), np.array(labels is not None)),
            len(pairs) - fitting,
        )

    def save(self, path: os.PathLike[str] | str) -> None:
        """Writes an .npz file to `path` atomically."""
        with atomic_writer(path) as file:
            np.savez(
                file,
                **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            )

    @classmethod
    def load(cls, path: os.PathLike[str] | str) -> "TokenPairs":
        """Loads what `save` wrote."""
        with epath.Path(path).open("rb") as file, np.load(file) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def rows_per_batch(bucket: int, tokens_per_batch: int, multiple_of: int = 1) -> int:
    """Sentences of a batch of this bucket: the largest multiple of `multiple_of` within
    `tokens_per_batch` padded tokens.
    """
    rows = tokens_per_batch // bucket // multiple_of * multiple_of
    if not rows:
        raise UserError(
            f"tokens_per_batch={tokens_per_batch} cannot hold {multiple_of} sentences of {bucket}"
            " tokens, one for each device and micro-batch; raise it, or use fewer of these"
        )
    return rows


def train_batches(
    pairs: TokenPairs,
    buckets: Sequence[int],
    tokens_per_batch: int,
    seed: int,
    read_ahead: int = 4,
    multiple_of: int = 1,
    held: Callable[[int], Int[np.ndarray, "held"]] = np.arange,
) -> grain.DatasetIterator:
    """An endless iterator over batches; every sentence comes once per pass over its bucket, in a
    new order in each pass.

    Args:
      pairs: the training text, none longer than the last bucket.
      buckets: increasing lengths in tokens.
      tokens_per_batch: padded target tokens of one batch.
      seed: determines the order, together with the text and the other arguments.
      read_ahead: batches prepared in a background thread; 0: none. It does not change the batches.
      multiple_of: the number of sentences of every batch is a multiple of this, for devices and
        micro-batches.
      held: held(rows) returns the rows of a batch with that many rows that this process assembles;
        all by default. Order, shapes and position of the whole batches do not depend on it.

    `get_state` and `set_state` continue with the exact next batch. Buckets with less than a batch
    are padded to the next one; the last one repeats its sentences.
    """
    rows = {bucket: rows_per_batch(bucket, tokens_per_batch, multiple_of) for bucket in buckets}
    parts, weights = [], []
    for bucket, members in _merged(rows, _members(pairs, buckets)).items():
        batches = _BucketBatches(
            pairs, members, bucket, rows[bucket], held(rows[bucket]), (seed, bucket)
        )
        parts.append(grain.MapDataset.range(_ENDLESS).map(batches))
        weights.append(len(members) / rows[bucket])
    # One thread, so that `read_ahead` hides the work without using the cores of the training.
    options = grain.ReadOptions(num_threads=min(read_ahead, 1), prefetch_buffer_size=read_ahead)
    return iter(grain.MapDataset.mix(parts, weights).to_iter_dataset(options))


def evaluation_batches(
    pairs: TokenPairs,
    buckets: Sequence[int],
    tokens_per_batch: int,
    max_tokens: int = 0,
    multiple_of: int = 1,
) -> list[Batch]:
    """Every pair exactly once, bucket after bucket in the order of the text.

    The last batch of a bucket is padded with rows of PAD. With `max_tokens` > 0, only pairs at even
    distances over the whole text are used, with about `max_tokens` padded target tokens (rows of
    PAD not counted).
    """
    batches = []
    for bucket, members in _members(
        pairs, buckets, _evenly_spaced(pairs, buckets, max_tokens)
    ).items():
        rows = rows_per_batch(bucket, tokens_per_batch, multiple_of)
        for start in range(0, len(members), rows):
            batch = assemble(pairs, members[start : start + rows], bucket)
            missing = rows - len(batch["source"])
            batches.append(
                {
                    side: np.pad(tokens, ((0, missing), (0, 0)), constant_values=PAD)
                    for side, tokens in batch.items()
                }
            )
    return batches


def assemble(pairs: TokenPairs, indices: Int[np.ndarray, "B"], bucket: int) -> Batch:
    """The batch [len(indices), bucket] of the pairs at `indices`; of classes [len(indices), 1]."""
    return {
        "source": _padded(pairs.source_tokens, pairs.source_offsets, indices, bucket),
        "target": _padded(
            pairs.target_tokens, pairs.target_offsets, indices, 1 if pairs.labelled else bucket
        ),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class _BucketBatches(grain.transforms.Map):
    """Maps the number of a batch to the batch, in endless passes over `members`, each in its own
    order.

    Whole batches are drawn at once: shuffling sentence by sentence in grain costs 0.1 ms each,
    seconds for the large batches of an accelerator.
    """

    pairs: TokenPairs
    members: Int[np.ndarray, "members"]
    bucket: int
    rows: int
    held: Int[np.ndarray, "held"]  # rows that are assembled
    seed: tuple[int, ...]

    def map(self, element: int) -> Batch:
        size, start = len(self.members), int(element) * self.rows
        passes = range(start // size, (start + self.rows - 1) // size + 1)
        drawn = [
            self._order(number)[max(start - number * size, 0) : start + self.rows - number * size]
            for number in passes
        ]
        return assemble(self.pairs, self.members[np.concatenate(drawn)[self.held]], self.bucket)

    def _order(self, number: int) -> Int[np.ndarray, "members"]:
        # 0: published results used it
        return _permutation(len(self.members), (*self.seed, 0, number))


@functools.lru_cache(maxsize=32)
def _permutation(size: int, seed: tuple[int, ...]) -> Int[np.ndarray, "members"]:
    """Cached, because many batches share a pass."""
    return np.random.default_rng(seed).permutation(size)


def _padded(
    tokens: Int32[np.ndarray, "tokens"],
    offsets: Int64[np.ndarray, "offsets"],
    indices: Int[np.ndarray, "B"],
    bucket: int,
) -> Int32[np.ndarray, "B bucket"]:
    """[len(indices), bucket] int32: the sentences at `indices`, each with EOS, then PAD."""
    lengths = (offsets[indices + 1] - offsets[indices])[:, None]
    column = np.arange(bucket)[None, :]
    position = np.minimum(offsets[indices][:, None] + column, max(len(tokens) - 1, 0))
    words = tokens[position] if len(tokens) else np.full(position.shape, PAD, np.int32)
    return np.where(column < lengths, words, np.where(column == lengths, EOS, PAD)).astype(np.int32)


def _flat(
    sentences: Sequence[Int32[np.ndarray, "_"]],
) -> tuple[Int32[np.ndarray, "all_tokens"], Int64[np.ndarray, "offsets"]]:
    """The tokens of all sentences, and the offsets of each [sentences + 1]."""
    offsets = np.cumsum([0, *map(len, sentences)], dtype=np.int64)
    return np.concatenate([np.zeros(0, np.int32), *sentences]).astype(np.int32), offsets


def _members(
    pairs: TokenPairs, buckets: Sequence[int], among: Int[np.ndarray, "among"] | None = None
) -> dict[int, Int[np.ndarray, "_"]]:
    """Indices of the pairs in each bucket, increasing; only those in `among` if given."""
    among = np.arange(len(pairs)) if among is None else among
    lengths = pairs.lengths()[among]
    if len(lengths) and lengths.max() > buckets[-1]:
        raise ValueError(
            f"a pair of {lengths.max()} tokens exceeds the last bucket, {buckets[-1]}; leave it out"
            " in TokenPairs.from_pairs"
        )
    place = np.searchsorted(np.asarray(buckets), lengths)
    return {bucket: among[place == i] for i, bucket in enumerate(buckets)}


def _merged(
    least: Mapping[int, int], members: Mapping[int, Int[np.ndarray, "_"]]
) -> dict[int, Int[np.ndarray, "_"]]:
    """`members` with every bucket of fewer than `least[bucket]` sentences moved into the next
    bucket that has some.
    """
    filled, carried = {}, np.zeros(0, np.int64)
    last = max((bucket for bucket, indices in members.items() if len(indices)), default=None)
    if last is None:
        raise ValueError("there are no pairs to make batches of")
    for bucket, indices in members.items():
        indices = np.sort(np.concatenate([carried, indices]))
        if bucket == last or len(indices) >= least[bucket]:
            filled[bucket], carried = indices, np.zeros(0, np.int64)
        else:
            carried = indices
        if bucket == last:
            return filled
    return filled


def _evenly_spaced(
    pairs: TokenPairs, buckets: Sequence[int], max_tokens: int
) -> Int[np.ndarray, "chosen"]:
    """Indices of pairs at even distances with about `max_tokens` padded tokens; all if it is 0."""
    padded = sum(bucket * len(indices) for bucket, indices in _members(pairs, buckets).items())
    if not max_tokens or padded <= max_tokens:
        return np.arange(len(pairs))
    wanted = max(1, round(len(pairs) * max_tokens / padded))
    return np.arange(wanted) * len(pairs) // wanted
