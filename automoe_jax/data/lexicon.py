"""Word translations from parallel text: IBM model 1 (Brown et al., 1993, "The Mathematics of
Statistical Machine Translation", section 4.1) on token ids.

Axes: V source vocabulary · M translations of a piece · C cells, a source and a target token of one
pair.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from automoe_jax.data.batching import TokenPairs
from automoe_jax.data.tokenizer import EOS

ITERATIONS = 5
# Text beyond this size is sampled evenly; about 1 GB of memory.
MOST_CELLS = 20_000_000
_TINY = np.float32(1e-30)  # instead of a sum that is rounded to 0
_NULL = EOS  # the source token that words without a counterpart are aligned to


def word_translations(
    tokens: TokenPairs,
    vocab_size: int,
    target_vocab_size: int,
    best: int,
    progress: Callable[[], Any] = lambda: None,
) -> Int32[np.ndarray, "V best"]:
    """[V, best]: the most probable target pieces of each source piece, best first, then −1
    where there are fewer; `progress` is called after each of `ITERATIONS`.
    """
    source, target, rows = _cells(_sampled(tokens))
    keys = source.astype(np.int64) * target_vocab_size + target
    pairs = np.unique(keys)
    cell = np.searchsorted(pairs, keys).astype(np.int32)
    of_source, of_target = pairs // target_vocab_size, pairs % target_vocab_size
    probability = np.ones(len(pairs), np.float32)
    for _ in range(ITERATIONS):
        weight = probability[cell]  # p(target | source) of each cell
        summed = np.maximum(np.add.reduceat(weight, rows[:-1]), _TINY)
        weight /= np.repeat(summed, np.diff(rows))
        expected = np.bincount(cell, weight, len(pairs))
        totals = np.bincount(of_source, expected, vocab_size)
        probability = (expected / np.maximum(totals[of_source], _TINY)).astype(np.float32)
        progress()
    order = np.lexsort((of_target, -probability, of_source))
    rank = np.arange(len(order)) - np.searchsorted(of_source, of_source)  # within its source
    translations = np.full((vocab_size, best), -1, np.int32)
    kept = rank < best
    translations[of_source[kept], rank[kept]] = of_target[order][kept]
    return translations


def frequent_targets(
    tokens: TokenPairs, target_vocab_size: int, most: int
) -> Int32[np.ndarray, "pieces"]:
    """The most frequent target pieces, most frequent first."""
    counts = np.bincount(tokens.target_tokens, minlength=target_vocab_size)
    order = np.argsort(-counts, kind="stable")[:most]
    return order[counts[order] > 0].astype(np.int32)


def _sampled(tokens: TokenPairs) -> TokenPairs:
    """Pairs, spread evenly, of at most about MOST_CELLS cells."""
    lengths = np.diff(tokens.source_offsets) + 1, np.diff(tokens.target_offsets)
    step = -(-int((lengths[0] * lengths[1]).sum()) // MOST_CELLS)
    if step <= 1:
        return tokens
    chosen = [tokens[i] for i in range(0, len(tokens), step)]
    sides = zip(*chosen, strict=True)
    flat = [part for side in sides for part in (np.concatenate(side), _offsets(map(len, side)))]
    return TokenPairs(*flat)


def _offsets(lengths: Any) -> Int64[np.ndarray, "offsets"]:
    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)


def _cells(
    tokens: TokenPairs,
) -> tuple[Int32[np.ndarray, "C"], Int32[np.ndarray, "C"], Int64[np.ndarray, "rows"]]:
    """The source and the target token of each cell [C], and where the cells of each target token
    begin, with C at the end. The null token is a further source token of every pair.
    """
    # source tokens with a null token before each sentence
    starts = tokens.source_offsets[:-1]
    padded = np.insert(tokens.source_tokens, starts, _NULL)
    first = starts + np.arange(len(tokens))
    count = np.diff(tokens.source_offsets) + 1
    of_target = np.repeat(np.arange(len(tokens)), np.diff(tokens.target_offsets))
    each = count[of_target]  # source tokens of each target token
    rows = _offsets(each)
    place = np.arange(rows[-1]) - np.repeat(rows[:-1] - first[of_target], each)
    return padded[place], np.repeat(tokens.target_tokens, each), rows
