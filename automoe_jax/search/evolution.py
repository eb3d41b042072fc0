"""Evolutionary search under limits, as in AutoMoE (arXiv 2210.07535) and HAT (arXiv 2005.14187).

Iteration 0 scores a random population. Each of the `iterations` after it makes mutations and
crossovers of the best candidates so far and scores them, those of the last iteration too. All draws
depend only on the seed and the scores, so an interrupted search is resumed exactly by running it
again with the scores known so far.

A generation is complete before it is scored. Its candidates are scored together, and their rivals
are of earlier generations: early stopping of a candidate does not depend on the others of its
generation.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from automoe_jax.arch import Arch
from automoe_jax.config import SearchConfig
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.ledger import Ledger, Proposal
from automoe_jax.search.limits import CostFunction, check_limits, within_limits
from automoe_jax.search.pareto import pareto_front
from automoe_jax.search.sampling import even_draws
from automoe_jax.search.stopping import Trial
from automoe_jax.space import SearchSpace

# Even draws in a row without a new architecture, before a population is complete.
REPEATS = 1000
# Children in a row without a new architecture within the limits, after which architectures are
# shrunk or breeding ends.
ATTEMPTS = 50
# Each crossover with the smallest architecture halves the remaining differences.
SHRINKS = 64


def evolve(
    space: SearchSpace,
    settings: SearchConfig,
    *,
    score: Callable[[Sequence[Trial]], Iterable[Score]],
    cost: CostFunction,
    seed: int,
    record: Callable[[Candidate], None] = lambda candidate: None,
    known: Mapping[Arch, Score] | None = None,
    progress: Callable[[int, int, float], None] = lambda iteration, done, best_loss: None,
) -> list[Candidate]:
    """The evolutionary search; arguments and result are those of `algorithms.Search`.

    Raises `UserError` when the smallest architecture exceeds a limit.
    """
    check_limits(space, settings, cost)
    breeder = Breeder(space, settings, cost, np.random.default_rng(seed))
    ledger = Ledger(score, known or {}, record, progress)
    ledger.add(0, list(breeder.random_population()))
    for iteration in range(1, settings.iterations + 1):
        complete = [one for one in ledger.candidates if one.complete]
        parents = sorted(complete, key=lambda one: one.rank)[: settings.parents]
        front = pareto_front(ledger.candidates, settings.objective)
        generation = [
            proposal._replace(rival=rival(proposal.costs, parents, front, settings))
            for proposal in breeder.children(functools.partial(breeder.any_of, parents))
        ]
        ledger.add(iteration, generation)
    return ledger.candidates


def rival(
    costs: Mapping[str, float],
    parents: Sequence[Candidate],
    front: Sequence[Candidate],
    settings: SearchConfig,
) -> Arch | None:
    """The candidate that an architecture of these costs must beat; None if any loss is useful.

    It is the worse of the last of all parents and the best of those that cost no more. An
    architecture that is worse than it will never be a parent, the best or on the front of loss
    against the cost `settings.objective`, because the front and the parents only improve.
    """
    objective = settings.objective
    no_dearer = [one for one in front if one.costs[objective] <= costs[objective]]
    if not settings.stop_early or len(parents) < settings.parents or not no_dearer:
        return None
    worst = max(parents[-1], no_dearer[-1], key=lambda one: one.loss)
    return worst.arch if math.isfinite(worst.loss) else None


def max_candidates(settings: SearchConfig) -> int:
    """Number of architectures that a search scores, unless the space has fewer."""
    return settings.population + settings.iterations * (settings.mutations + settings.crossovers)


class Breeder:
    """Samples new architectures within the limits, none twice."""

    def __init__(
        self,
        space: SearchSpace,
        settings: SearchConfig,
        cost: CostFunction,
        rng: np.random.Generator,
    ):
        self._space, self._settings, self._cost, self._rng = space, settings, cost, rng
        self._smallest = space.smallest()
        self._draw = even_draws(space, settings, cost)
        self._proposed: set[Arch] = set()

    def random_population(self) -> Iterator[Proposal]:
        """Even draws within the limits; fewer than configured if no new ones are found."""
        count, draw = self._settings.population, functools.partial(self._draw, self._rng)
        while count > 0 and (proposal := self._new("random", draw, REPEATS)):
            count -= 1
            yield proposal

    def children(self, parent: Callable[[], Arch]) -> Iterator[Proposal]:
        """Mutations and crossovers of the parents that `parent` draws."""

        def mutation() -> Arch:
            return self._space.mutate(parent(), self._rng, self._settings.mutation_prob)

        def crossover() -> Arch:
            return self._space.crossover(parent(), parent(), self._rng)

        yield from self._several(self._settings.mutations, "mutation", mutation)
        yield from self._several(self._settings.crossovers, "crossover", crossover)

    def any_of(self, parents: list[Candidate]) -> Arch:
        """One of `parents`, each with equal probability."""
        return parents[self._rng.integers(len(parents))].arch

    def _several(self, count: int, origin: str, draw: Callable[[], Arch]) -> Iterator[Proposal]:
        """Up to `count` proposals: first as drawn, then shrunk to fit; fewer if no new ones are
        found.
        """
        for draw_one in (draw, lambda: self._shrunk(draw())):
            while count > 0 and (proposal := self._new(origin, draw_one, ATTEMPTS)):
                count -= 1
                yield proposal

    def _new(self, origin: str, draw: Callable[[], Arch], attempts: int) -> Proposal | None:
        for _ in range(attempts):
            arch = draw()
            if arch in self._proposed:
                continue
            costs = self._cost(arch)
            if within_limits(costs, self._settings):
                self._proposed.add(arch)
                return Proposal(arch, costs, origin)
        return None

    def _shrunk(self, arch: Arch) -> Arch:
        """`arch` crossed with the smallest architecture until it is within the limits."""
        for _ in range(SHRINKS):
            if within_limits(self._cost(arch), self._settings):
                return arch
            arch = self._space.crossover(arch, self._smallest, self._rng)
        return self._smallest
