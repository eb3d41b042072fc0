"""The search algorithms: every value of `config.search.algorithm`, in one table.

This module is imported by the configuration, so it imports no algorithm before it is used.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from automoe_jax.registry import Registry, lazily
from automoe_jax.space import SearchSpace

if TYPE_CHECKING:
    from automoe_jax.arch import Arch
    from automoe_jax.config import SearchConfig
    from automoe_jax.search.candidate import Candidate, Score
    from automoe_jax.search.limits import CostFunction
    from automoe_jax.search.stopping import Trial


class Search(Protocol):
    """Searches `space` for a low score under the limits of `settings`; returns every candidate in
    the order of scoring.

    Args:
      score: score(trials) returns the scores of new architectures in their order. It gets each
        architecture once, and only those within the limits. A candidate that is surely worse than
        the rival of its trial may be stopped early.
      cost: cost(arch) returns the costs that the limits apply to.
      seed: equal seeds and scores give equal results.
      record: called with each candidate right after it is scored, but not for those in `known`.
      known: scores of an earlier, interrupted run of the same search; these are not asked for
        again.
      progress: called after each candidate with its iteration, the number of candidates so far (at
        most `Algorithm.max_candidates`) and their lowest loss.

    Raises `UserError` when the smallest architecture exceeds a limit.
    """

    def __call__(
        self,
        space: SearchSpace,
        settings: "SearchConfig",
        *,
        score: "Callable[[Sequence[Trial]], Iterable[Score]]",
        cost: "CostFunction",
        seed: int,
        record: "Callable[[Candidate], None]",
        known: "Mapping[Arch, Score]",
        progress: Callable[[int, int, float], None],
    ) -> "list[Candidate]": ...


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A search algorithm."""

    search: Search
    # the largest number of architectures that a search with these settings scores
    max_candidates: "Callable[[SearchConfig], int]"


ALGORITHMS: Registry[Algorithm] = Registry(
    "config.search.algorithm",
    {
        "evolution": Algorithm(
            lazily("automoe_jax.search.evolution", "evolve"),
            lazily("automoe_jax.search.evolution", "max_candidates"),
        ),
        "nsga2": Algorithm(
            lazily("automoe_jax.search.nsga2", "search"),
            lazily("automoe_jax.search.evolution", "max_candidates"),
        ),
        "cost_ranking": Algorithm(
            lazily("automoe_jax.search.cost_ranking", "search"),
            lazily("automoe_jax.search.cost_ranking", "max_candidates"),
        ),
        "knapsack": Algorithm(
            lazily("automoe_jax.search.knapsack", "search"),
            lazily("automoe_jax.search.evolution", "max_candidates"),
        ),
        "random": Algorithm(
            lazily("automoe_jax.search.random_search", "search"),
            lazily("automoe_jax.search.evolution", "max_candidates"),
        ),
    },
)
