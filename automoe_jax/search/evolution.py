"""Evolutionary search under limits (SPEC 1.4).

Iteration 0 scores a random population; each of the `iterations` after it breeds mutations and
crossovers from the best candidates so far, which stay in the population, and scores them, the last
ones too. What is drawn depends on the seed and the scores alone, so an interrupted search goes on
exactly when it is run again with the scores it already has.

A generation is known before it is scored. So its candidates are scored together, and what they have
to beat, their rivals, are of earlier generations: whether a candidate is stopped early does not
depend on the others of its own.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.config import SearchConfig
from automoe_jax.costs import Costs
from automoe_jax.errors import UserError
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.pareto import pareto_front
from automoe_jax.search.stopping import Trial
from automoe_jax.space import SearchSpace

# Draws in a row without a new architecture within the limits, before the limits are met by force or
# breeding ends.
ATTEMPTS = 50
# Each crossing with the smallest architecture halves what still differs from it.
SHRINKS = 64

LIMITS = {
    "max_flops": ("flops", "FLOPs"),
    "max_params": ("params", "parameters"),
    "max_active_params": ("active_params", "active parameters"),
}


class _Proposal(NamedTuple):
    arch: Arch
    costs: Costs
    origin: str


def evolve(
    space: SearchSpace,
    settings: SearchConfig,
    *,
    score: Callable[[Sequence[Trial]], Iterable[Score]],
    cost: Callable[[Arch], Costs],
    seed: int,
    record: Callable[[Candidate], None] = lambda candidate: None,
    known: Mapping[Arch, Score] | None = None,
    progress: Callable[[int, int, float], None] = lambda iteration, done, best_loss: None,
) -> list[Candidate]:
    """Searches `space` for a low score under the limits of `settings`; returns every candidate in
    the order of scoring.

    Args:
      score: score(trials) gives the scores of a generation's new architectures in their order; it
      sees each once, and none
        beyond a limit. A loss that is not finite counts as the worst. A candidate surely worse than
        its rival may be stopped.
      cost: what the limits are compared with.
      seed: equal seeds and scores give equal results.
      record: called with each candidate right after it was scored, not for those in `known`.
      known: scores of an earlier, interrupted run of the same search; these are not asked for
      again.
      progress: called after each candidate with the iteration, how many are done (at most
      `max_candidates`) and the
        lowest loss so far.

    Raises `UserError` when the smallest architecture is over a limit.
    """
    check_limits(space, settings, cost)
    rng = np.random.default_rng(seed)
    known = known or {}
    breeder = _Breeder(space, settings, cost, rng)
    done: list[Candidate] = []
    for iteration in range(settings.iterations + 1):
        parents = sorted((one for one in done if one.complete), key=lambda one: one.rank)[
            : settings.parents
        ]
        generation = list(breeder.children(parents) if iteration else breeder.random_population())
        front = pareto_front(done)
        trials = [
            Trial(arch, rival(costs, parents, front, settings))
            for arch, costs, _ in generation
            if arch not in known
        ]
        scores = iter(score(trials) if trials else ())
        for arch, costs, origin in generation:
            new = arch not in known
            candidate = Candidate.scored(
                arch, next(scores) if new else known[arch], costs, iteration, origin
            )
            if new:
                record(candidate)
            done.append(candidate)
            progress(iteration, len(done), min(candidate.loss for candidate in done))
    return done


def rival(
    costs: Costs, parents: Sequence[Candidate], front: Sequence[Candidate], settings: SearchConfig
) -> Arch | None:
    """The candidate that one of these costs is of no use if it is worse than; None where any loss
    would be of use.

    It is the worse of the last of all parents and the best of those that cost no more. What is
    worse than it will never be a parent, the best or on the front of loss against FLOPs, whatever
    comes: the front and the parents only get better.
    """
    no_dearer = [one for one in front if one.flops <= costs.flops]
    if not settings.stop_early or len(parents) < settings.parents or not no_dearer:
        return None
    worst = max(parents[-1], no_dearer[-1], key=lambda one: one.loss)
    return worst.arch if math.isfinite(worst.loss) else None


def max_candidates(settings: SearchConfig) -> int:
    """How many architectures a search scores, unless the space has fewer."""
    return settings.population + settings.iterations * (settings.mutations + settings.crossovers)


def check_limits(space: SearchSpace, settings: SearchConfig, cost: Callable[[Arch], Costs]) -> None:
    """Raises `UserError` for a limit below the smallest architecture of `space`, with what that one
    costs.
    """
    smallest = cost(space.smallest())
    for name, (field, unit) in LIMITS.items():
        limit, least = getattr(settings, name), getattr(smallest, field)
        if 0 < limit < least:
            raise UserError(
                f"search.{name}={_short(limit)} is below the smallest architecture of this space"
                f" ({_short(_rounded_up(least))} {unit}); raise it, or give the space smaller"
                " choices"
            )


def within_limits(costs: Costs, settings: SearchConfig) -> bool:
    """Whether an architecture of these costs may be a candidate; a limit of 0 is none."""
    return all(
        getattr(costs, field) <= (getattr(settings, name) or math.inf)
        for name, (field, _) in LIMITS.items()
    )


class _Breeder:
    """Draws new architectures within the limits, none of them twice."""

    def __init__(
        self,
        space: SearchSpace,
        settings: SearchConfig,
        cost: Callable[[Arch], Costs],
        rng: np.random.Generator,
    ):
        self._space, self._settings, self._cost, self._rng = space, settings, cost, rng
        self._smallest = space.smallest()
        self._proposed: set[Arch] = set()

    def random_population(self) -> Iterator[_Proposal]:
        return self._several(
            self._settings.population, "random", lambda: self._space.sample(self._rng)
        )

    def children(self, parents: list[Candidate]) -> Iterator[_Proposal]:
        def mutation() -> Arch:
            return self._space.mutate(self._pick(parents), self._rng, self._settings.mutation_prob)

        def crossover() -> Arch:
            return self._space.crossover(self._pick(parents), self._pick(parents), self._rng)

        yield from self._several(self._settings.mutations, "mutation", mutation)
        yield from self._several(self._settings.crossovers, "crossover", crossover)

    def _pick(self, parents: list[Candidate]) -> Arch:
        return parents[self._rng.integers(len(parents))].arch

    def _several(self, count: int, origin: str, draw: Callable[[], Arch]) -> Iterator[_Proposal]:
        """Up to `count` proposals: as drawn, then made to fit, and fewer where nothing new turns up
        any more.
        """
        for draw_one in (draw, lambda: self._shrunk(draw())):
            while count > 0 and (proposal := self._new(origin, draw_one)):
                self._proposed.add(proposal.arch)
                count -= 1
                yield proposal

    def _new(self, origin: str, draw: Callable[[], Arch]) -> _Proposal | None:
        for _ in range(ATTEMPTS):
            arch = draw()
            if arch in self._proposed:
                continue
            costs = self._cost(arch)
            if within_limits(costs, self._settings):
                return _Proposal(arch, costs, origin)
        return None

    def _shrunk(self, arch: Arch) -> Arch:
        """`arch` crossed with the smallest architecture until it is within the limits."""
        for _ in range(SHRINKS):
            if within_limits(self._cost(arch), self._settings):
                return arch
            arch = self._space.crossover(arch, self._smallest, self._rng)
        return self._smallest


def _rounded_up(value: float) -> float:
    """To four digits, so that what the message says is a limit that can be met."""
    step = 10 ** max(0, math.floor(math.log10(value)) - 3)
    return math.ceil(value / step) * step


def _short(value: float) -> str:
    """As in 2.1e8."""
    mantissa, _, exponent = f"{value:.12e}".partition("e")
    return f"{float(mantissa):.13g}e{int(exponent)}"
