"""NSGA-II (Deb et al., 2002) over the validation loss and one cost, under limits.

The result is a front of architectures rather than one. Selection is pymoo's: a population survives
by its non-dominated rank and crowding distance, and parents are drawn by binary tournaments. The
first population, mutations, crossovers and limits are those of `evolution`, and so is the number of
architectures that are scored. No architecture is proposed twice.

All draws depend only on the seed and the scores, so an interrupted search is resumed exactly, also
within a generation, by running it again with the scores known so far. No candidate is stopped
early: every loss counts for the front.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.problems.static import StaticProblem

from automoe_jax.arch import Arch
from automoe_jax.config import SearchConfig
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.evolution import Breeder
from automoe_jax.search.ledger import Ledger, Proposal
from automoe_jax.search.limits import CostFunction, check_limits
from automoe_jax.search.stopping import Trial
from automoe_jax.space import SearchSpace

# Objectives of an architecture whose loss is not finite; every other one dominates it.
WORST = 1e300


def search(
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
    """As `algorithms.Search`, with `settings.objective` as the cost that is minimised.

    Raises `UserError` when the smallest architecture exceeds a limit.
    """
    check_limits(space, settings, cost)
    breeder = Breeder(space, settings, cost, np.random.default_rng(seed))
    ledger = Ledger(score, known or {}, record, progress)
    algorithm = _Selection(settings, breeder, seed)
    for iteration in range(settings.iterations + 1):
        generation = algorithm.ask()
        if generation is None:
            break
        proposals = [individual.get("proposal") for individual in generation]
        ledger.add(iteration, proposals)
        algorithm.tell(generation, ledger.candidates[-len(proposals) :])
    return ledger.candidates


class _Selection:
    """pymoo's NSGA-II, whose individuals are the proposals of a breeder."""

    def __init__(self, settings: SearchConfig, breeder: Breeder, seed: int):
        self._objective = settings.objective
        first = _individuals(list(breeder.random_population()))
        self._algorithm = NSGA2(
            pop_size=len(first),
            n_offsprings=settings.mutations + settings.crossovers,
            sampling=first,
            mating=_Mating(breeder),
            eliminate_duplicates=False,  # the breeder proposes nothing twice
        )
        self._algorithm.setup(Problem(n_var=1, n_obj=2), termination=NoTermination(), seed=seed)

    def ask(self) -> Population | None:
        """The next generation; None when the breeder finds no new architectures."""
        return self._algorithm.ask()

    def tell(self, generation: Population, candidates: Sequence[Candidate]) -> None:
        """Selects the survivors from the population and a scored generation."""
        objectives = np.array([self._objectives(one) for one in candidates])
        Evaluator().eval(StaticProblem(self._algorithm.problem, F=objectives), generation)
        with np.errstate(invalid="ignore"):  # crowding: infinity minus itself
            self._algorithm.tell(infills=generation)

    def _objectives(self, candidate: Candidate) -> tuple[float, float]:
        if not math.isfinite(candidate.loss):
            return WORST, WORST
        return candidate.loss, candidate.costs[self._objective]


class _Mating:
    """Children of parents that won binary tournaments; the interface is pymoo's."""

    def __init__(self, breeder: Breeder):
        self._breeder = breeder
        self._tournament = TournamentSelection(func_comp=binary_tournament)

    def do(
        self, problem: Problem, population: Population, count: int, **options: object
    ) -> Population:
        """At most as many individuals as a generation has; `count` is that number."""

        def parent() -> Arch:
            (winner,) = self._tournament.do(problem, population, 1, 1, to_pop=False, **options)
            return population[int(winner[0])].get("proposal").arch

        return _individuals(list(self._breeder.children(parent)))


def _individuals(proposals: Sequence[Proposal]) -> Population:
    """Individuals of pymoo; X is only a number."""
    population = Population.new(X=np.arange(len(proposals), dtype=float)[:, None])
    for individual, proposal in zip(population, proposals, strict=True):
        individual.set("proposal", proposal)
    return population
