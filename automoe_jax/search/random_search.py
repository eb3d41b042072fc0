"""Random search: as many architectures within the limits as evolution would score, all drawn at
random (the baseline of AutoMoE, arXiv 2210.07535, table 4).
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from automoe_jax.arch import Arch
from automoe_jax.config import SearchConfig
from automoe_jax.search import evolution
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.limits import CostFunction
from automoe_jax.search.stopping import Trial
from automoe_jax.space import SearchSpace


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
    """As `algorithms.Search`: the first population of an evolution, and nothing bred from it."""
    population = evolution.max_candidates(settings)
    return evolution.evolve(
        space,
        dataclasses.replace(settings, population=population, iterations=0),
        score=score,
        cost=cost,
        seed=seed,
        record=record,
        known=known,
        progress=progress,
    )
