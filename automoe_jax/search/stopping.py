"""Early stopping of clearly worse candidates, before the whole validation text is scored.

The text is cut into parts. A part is a random sample of the text, drawn from each bucket of
sentence lengths in proportion, so the parts seen predict the rest, with a known error. A candidate
has a rival (`Trial`): a candidate that is worse than its rival is not needed. After each part the
difference of the two losses, sentence by sentence, gives an estimate of the difference over the
whole text and the estimate's standard error; the candidate is stopped when the estimate is more
than `standard_errors` of them above zero.

Guarantees: a candidate that finishes has exactly the loss it would have without stopping. A stopped
candidate would not have won either, unless its estimate was off by more than `standard_errors`. For
normally distributed differences, five standard errors are one case in three million; the sentences
not seen could still deviate. Tests compare whole searches with and without stopping.

Axes: R rows of a part: sentences, or padding.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int

from automoe_jax.arch import Arch
from automoe_jax.search.candidate import Score

FILLING = -1
# candidates computed alternately: while the result of one is fetched and judged, the device
# computes the other
IN_FLIGHT = 2
KEPT_BYTES = 64 << 20  # losses of finished candidates: future rivals

T = TypeVar("T")


class Trial(NamedTuple):
    """An architecture to score."""

    arch: Arch
    # a candidate; being worse than it suffices to stop the scoring
    rival: Arch | None = None


class Estimate(NamedTuple):
    """Estimate of a sum over a whole text from a sample."""

    total: float
    error: float  # standard error of `total`


@dataclasses.dataclass(frozen=True)
class Cut:
    """Division of a text into parts."""

    strata: tuple[Int[np.ndarray, "R"], ...]  # of each part: bucket of a row, or FILLING
    tokens: int  # of the whole text

    @property
    def parts(self) -> int:
        return len(self.strata)

    def estimate(self, values: Float[np.ndarray, "rows"], parts: int) -> Estimate:
        """Sum over the text of a value per sentence, from `values` [rows of the first `parts`
        parts].

        Sentences not seen count with the mean of their bucket. The error is that of a sample
        without replacement of the whole text, which sampling bucket by bucket can only lower.
        """
        seen, everything = np.concatenate(self.strata[:parts]), np.concatenate(self.strata)
        there, sampled = (
            np.bincount(strata[strata != FILLING], minlength=everything.max() + 1)
            for strata in (everything, seen)
        )
        sentences = seen != FILLING
        stands_for = values[sentences] * (there / np.maximum(sampled, 1))[seen[sentences]]
        count, total = len(stands_for), float(stands_for.sum())
        if count < 2:
            return Estimate(total, math.inf)
        unseen = 1 - count / there.sum()
        return Estimate(
            total,
            float(
                np.sqrt(unseen * count / (count - 1) * np.sum((stands_for - total / count) ** 2))
            ),
        )


class Recent(Generic[T]):
    """Values by key; the least recently used ones are dropped beyond a number of bytes."""

    def __init__(self, most_bytes: int, size: Callable[[T], int]):
        self._most, self._size, self._bytes = most_bytes, size, 0
        self._values: collections.OrderedDict[Hashable, T] = collections.OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """The value, or None if it is not cached."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: Hashable, value: T) -> T:
        """Caches the value, if it fits, and returns it."""
        if key not in self._values:
            self._values[key] = value
            self._bytes += self._size(value)
        while self._bytes > self._most:
            _, dropped = self._values.popitem(last=False)
            self._bytes -= self._size(dropped)
        return value


class Scorer:
    """scores(trials) yields their scores in order, each as soon as those before it are known.

    Args:
      cut: the parts of the text.
      nll: nll(arch, parts) starts to compute a range of parts and returns a function that waits for
        the sum of −log p of every row of them, one after another.
      standard_errors: a candidate is stopped when it is worse than its rival by this many standard
        errors; 0: never.
    """

    def __init__(
        self,
        cut: Cut,
        nll: Callable[[Arch, range], Callable[[], np.ndarray]],
        standard_errors: float,
    ):
        self._cut, self._nll, self._standard_errors = cut, nll, standard_errors
        self._finished: Recent[np.ndarray] = Recent(KEPT_BYTES, lambda rows: rows.nbytes)

    def __call__(self, trials: Sequence[Trial]) -> Iterator[Score]:
        """Scores; those of stopped candidates have a share below 1."""
        waiting, turns = iter(enumerate(trials)), collections.deque[_Running]()
        scored: dict[int, Score] = {}
        given = 0
        while True:
            while len(turns) < IN_FLIGHT and (entry := next(waiting, None)):
                turns.append(self._started(*entry))
            if not turns:
                return
            one = turns.popleft()
            one.seen = np.concatenate([one.seen, one.awaited()])
            if score := self._verdict(one):
                scored[one.index] = score
            else:
                one.computing = self._next(one.computing, one.rival is None)
                one.awaited = self._nll(one.arch, one.computing)
                turns.append(one)
            while given in scored:
                yield scored.pop(given)
                given += 1

    def _started(self, index: int, trial: Trial) -> "_Running":
        rival = (
            self._rows(trial.rival) if trial.rival is not None and self._standard_errors else None
        )
        computing = self._next(range(0), rival is None)
        return _Running(
            index, trial.arch, rival, computing, self._nll(trial.arch, computing), np.zeros(0)
        )

    def _next(self, before: range, everything: bool) -> range:
        """The next parts to compute: all at once if nothing can stop the candidate."""
        return range(before.stop, self._cut.parts if everything else before.stop + 1)

    def _verdict(self, one: "_Running") -> Score | None:
        """The score, if it is known."""
        if one.computing.stop == self._cut.parts:
            self._finished.put(one.arch, one.seen)
            return Score(float(one.seen.sum()) / max(self._cut.tokens, 1))
        if one.rival is None:
            return None
        worse = self._cut.estimate(one.seen - one.rival[: len(one.seen)], one.computing.stop)
        if not worse.total > self._standard_errors * worse.error:
            return None
        seen = np.concatenate(self._cut.strata[: one.computing.stop])
        share = np.sum(seen != FILLING) / np.sum(np.concatenate(self._cut.strata) != FILLING)
        return Score(
            (float(one.rival.sum()) + worse.total) / max(self._cut.tokens, 1), float(share)
        )

    def _rows(self, arch: Arch) -> np.ndarray:
        """Every row's −log p of a finished candidate; computed again if it is not cached, for
        example after an interruption.
        """
        kept = self._finished.get(arch)
        return (
            self._finished.put(arch, self._nll(arch, range(self._cut.parts))())
            if kept is None
            else kept
        )


@dataclasses.dataclass
class _Running:
    """A candidate that is being scored."""

    index: int
    arch: Arch
    rival: Float[np.ndarray, "rows"] | None  # its −log p of every row
    computing: range  # parts
    awaited: Callable[[], np.ndarray]
    seen: Float[np.ndarray, "rows"]  # −log p of the rows before those
