"""Hypotheses from the records of a beam search.

The graph records, for each step, the best one-token extensions of every sentence's hypotheses; the
finishing rules and the length penalty are those of `inference.decode`.

Axes: t steps · B sentences · k beams · n = 2k extensions · S source tokens · G experts of all
layers.
"""

from typing import NamedTuple

import numpy as np

IMPOSSIBLE = -1e9  # score of a hypothesis that does not exist


class Records(NamedTuple):
    """The extensions of each step, best first."""

    scores: np.ndarray  # float32 [t, B, n]: Σ log p
    tokens: np.ndarray  # int64 [t, B, n]
    origins: np.ndarray  # int64 [t, B, n]: the extended hypothesis, 0 to k − 1
    attention: np.ndarray  # float32 [t, B, k·S] of the extended hypotheses, or [t, B, 0]
    gates: np.ndarray  # float32 [t, B, k·G], or [t, B, 0]
    source_gates: np.ndarray  # float32 [B, S, G of the encoder]


class Decisions(NamedTuple):
    """Decisions behind a translation of T tokens from S, EOS included in S alone."""

    attention: np.ndarray  # float32 [T, S]: where each target token was predicted from
    gates: np.ndarray  # float32 [T, G]: those of all decoder layers in turn
    source_gates: np.ndarray  # float32 [S, G]: those of all encoder layers


class Hypothesis(NamedTuple):
    """A finished translation."""

    tokens: np.ndarray  # int32, without EOS
    score: float  # Σ log p / length^α
    decisions: Decisions | None = None  # if they were recorded


def finished(
    records: Records, beams: int, length_penalty: float, eos_id: int, best: int = 1
) -> list[list[Hypothesis]]:
    """The `best` finished hypotheses of each sentence, best first."""
    _, batch, n = records.scores.shape
    ends = records.tokens == eos_id
    normalised = _normalised(records.scores, ends, beams, length_penalty)
    by_sentence = normalised.transpose(1, 0, 2).reshape(batch, -1)
    chosen = np.argsort(-by_sentence, axis=1, kind="stable")[:, :best]
    living = np.where(ends, np.float32(2 * IMPOSSIBLE), records.scores)
    live = np.argsort(-living, axis=2, kind="stable")[:, :, :beams]
    tokens = np.take_along_axis(records.tokens, live, axis=2)
    origins = np.take_along_axis(records.origins, live, axis=2)

    def hypothesis(b: int, place: int) -> Hypothesis:
        steps, extension = divmod(int(place), n)
        path, places = _path(
            tokens[:, b], origins[:, b], steps, records.origins[steps, b, extension]
        )
        decisions = _decisions(records, b, places, beams) if records.attention.size else None
        return Hypothesis(path, float(by_sentence[b, place]), decisions)

    return [
        [hypothesis(b, place) for place in chosen[b] if by_sentence[b, place] > IMPOSSIBLE / 2]
        for b in range(batch)
    ]


def _decisions(records: Records, b: int, places: np.ndarray, beams: int) -> Decisions:
    """Those of a hypothesis of sentence b, which is at `places` after each step: attention of the
    step that predicts a token, gates of the next one, which reads it.
    """
    steps = np.arange(len(places))

    def at(record: np.ndarray, steps: np.ndarray, places: np.ndarray) -> np.ndarray:
        by_beam = record[:, b].reshape(len(record), beams, record.shape[2] // beams)
        return by_beam[steps, places]

    before = np.append(0, places)[: len(places)]  # all begin as the first hypothesis
    return Decisions(
        at(records.attention, steps, before),
        at(records.gates, steps + 1, places),
        records.source_gates[b],
    )


def _normalised(
    scores: np.ndarray, ends: np.ndarray, beams: int, length_penalty: float
) -> np.ndarray:
    """The normalised scores [t, B, n] of the extensions that finish a hypothesis."""
    complete = ends & (np.arange(scores.shape[2]) < beams) & (scores > IMPOSSIBLE / 2)
    count = np.cumsum(complete.sum(axis=2), axis=0)
    before = np.concatenate([np.zeros_like(count[:1]), count[:-1]])
    complete &= (before < beams)[:, :, None]
    lengths = np.arange(1, len(scores) + 1, dtype=np.float32) ** np.float32(length_penalty)
    return np.where(complete, scores / lengths[:, None, None], np.float32(IMPOSSIBLE))


def _path(
    tokens: np.ndarray, origins: np.ndarray, steps: int, place: int
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of the hypothesis at `place` after `steps` steps, and its place after each step;
    tokens and origins [t, k].
    """
    path, places = np.empty(steps, np.int32), np.empty(steps, np.int64)
    for step in range(steps - 1, -1, -1):
        path[step], places[step] = tokens[step, place], place
        place = origins[step, place]
    return path, places
