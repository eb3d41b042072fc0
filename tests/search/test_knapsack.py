"""The knapsack over scores of single parts: optimal for additive losses, limits, resuming."""

import dataclasses

import numpy as np
import pytest

from automoe_jax.config import TOP_K, SearchConfig
from automoe_jax.errors import UserError
from automoe_jax.search import knapsack
from automoe_jax.search.algorithms import ALGORITHMS
from automoe_jax.search.candidate import Score
from automoe_jax.search.limits import Conditions, cost_function, within_limits
from automoe_jax.space import SearchSpace

SPACE = SearchSpace(
    qkv_dim=16,
    encoder_embed_dims=(16, 32),
    decoder_embed_dims=(16,),
    encoder_layers=(1, 2),
    decoder_layers=(1, 2),
    encoder_self_heads=(2, 4),
    decoder_self_heads=(2, 4),
    decoder_cross_heads=(2, 4),
    cross_layers=(1, 2),
    encoder_experts=(1, 2),
    decoder_experts=(1, 2),
    expert_ffn_dims=(0, 16, 32),
    top_k=(1, 2),
)
costs = cost_function(Conditions(SearchConfig(), TOP_K))
MIDDLE = (costs(SPACE.smallest())["flops"] + costs(SPACE.largest())["flops"]) / 2
LIMITED = SearchConfig(iterations=3, population=60, mutations=30, crossovers=30, max_flops=MIDDLE)


def additive(arch):
    """Gains of heads, experts and layers; the integer program knows them exactly."""
    widths = [width for layer in arch.encoder_experts + arch.decoder_experts for width in layer]
    heads = np.concatenate([arch.encoder_self_heads, arch.decoder_self_heads])
    return 5 - sum(width**0.5 for width in widths) / 20 - float(heads[heads > 0].sum()) / 50


def run(settings=LIMITED, score=additive, space=SPACE, **options):
    recorded = []

    def one_by_one(trials):
        return [Score(score(trial.arch)) for trial in trials]

    found = knapsack.search(
        space, settings, score=one_by_one, cost=costs, record=recorded.append, **options
    )
    return found, recorded


def test_it_finds_what_no_draw_beats_where_losses_add_up():
    found, recorded = run(seed=0)
    rng = np.random.default_rng(1)
    draws = [SPACE.sample(rng) for _ in range(3000)]
    within = [additive(arch) for arch in draws if within_limits(costs(arch), LIMITED)]
    assert min(one.loss for one in found) <= min(within) + 1e-9
    best = min(found, key=lambda one: one.loss)
    assert best.origin == "knapsack"
    assert len(recorded) <= ALGORITHMS.find("knapsack").max_candidates(LIMITED)
    assert len({one.arch for one in recorded}) == len(recorded), "none is scored twice"
    assert all(SPACE.contains(one.arch) for one in recorded)


def test_only_architectures_within_the_limits_are_returned():
    found, recorded = run(seed=2)
    assert found
    assert all(one.costs["flops"] <= MIDDLE for one in found)
    beyond = [one for one in recorded if one.costs["flops"] > MIDDLE]
    assert beyond, "parts are scored in the largest architecture"


def test_an_interrupted_search_is_resumed_without_scoring_again():
    found, recorded = run(seed=3)

    def unknown(arch):
        assert arch in rest
        return additive(arch)

    known = {one.arch: one.score for one in recorded[:-7]}
    rest = {one.arch for one in recorded[-7:]}
    again, added = run(seed=3, score=unknown, known=known)
    assert again == found
    assert added == recorded[-7:]


def test_a_small_budget_and_losses_that_are_not_finite():
    tiny = dataclasses.replace(LIMITED, iterations=0, population=3, parents=1)
    found, recorded = run(tiny, seed=0)
    assert found
    assert len(recorded) <= 4
    found, _ = run(seed=0, score=lambda arch: float("nan"))
    assert not any(one.origin == "knapsack" for one in found)


def test_one_shape_without_a_limit_gives_the_best_of_all():
    free = dataclasses.replace(LIMITED, max_flops=0.0)
    found, _ = run(free, seed=0)
    assert min(found, key=lambda one: one.loss).arch == SPACE.largest()


def test_a_limit_below_everything():
    with pytest.raises(UserError, match="is below the smallest architecture"):
        run(dataclasses.replace(LIMITED, max_flops=1.0), seed=0)
