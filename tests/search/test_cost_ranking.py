"""The search by costs alone: one candidate, the largest within the limits."""

import numpy as np

from automoe_jax.config import TOP_K, SearchConfig
from automoe_jax.search import cost_ranking
from automoe_jax.search.algorithms import ALGORITHMS
from automoe_jax.search.candidate import Score
from automoe_jax.search.limits import Conditions, cost_function
from automoe_jax.space import SearchSpace

SPACE = SearchSpace()
costs = cost_function(Conditions(SearchConfig(), TOP_K))


def run(settings: SearchConfig, **options):
    return cost_ranking.search(
        SPACE, settings, score=lambda trials: [Score(1.0)] * len(trials), cost=costs, **options
    )


def test_the_largest_architecture_where_nothing_limits_it():
    (found,) = run(SearchConfig(), seed=0)
    assert found.arch == SPACE.largest()


def test_no_draw_within_the_limit_is_larger():
    rng = np.random.default_rng(1)
    limit = costs(SPACE.sample(rng))["flops"]
    (found,) = run(SearchConfig(max_flops=limit), seed=0)
    others = [costs(SPACE.sample(rng))["flops"] for _ in range(200)]
    assert max(one for one in others if one <= limit) <= found.flops <= limit


def test_known_scores_are_used_and_the_table_has_it():
    (found,) = run(SearchConfig(), seed=0)
    (again,) = run(SearchConfig(), seed=1, known={found.arch: Score(0.5)})
    assert again.loss == 0.5
    assert ALGORITHMS.find("cost_ranking").max_candidates(SearchConfig()) == 1
