"""NSGA-II on scores that trade against a cost: the front, limits, repeats and interruptions."""

import dataclasses
import math

import numpy as np
import pytest

from automoe_jax.config import TOP_K, Config, SearchConfig, check
from automoe_jax.errors import UserError
from automoe_jax.search import history, nsga2, random_search
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.evolution import max_candidates
from automoe_jax.search.hypervolume import Reference, by_generation, hypervolume
from automoe_jax.search.limits import Conditions, cost_function, without_device
from automoe_jax.space import SearchSpace

SPACE = SearchSpace(
    qkv_dim=16,
    encoder_embed_dims=(16, 24, 32),
    decoder_embed_dims=(16, 24, 32),
    encoder_layers=(1, 2),
    decoder_layers=(1, 2),
    encoder_self_heads=(2, 4),
    decoder_self_heads=(2, 4),
    decoder_cross_heads=(2, 4),
    cross_layers=(1, 2),
    encoder_experts=(1, 2, 3),
    decoder_experts=(1, 2),
    expert_ffn_dims=(0, 16, 32, 64),
    top_k=(1, 2),
)
costs = cost_function(Conditions(SearchConfig(), TOP_K))
SMALL = SearchConfig(iterations=3, population=10, mutations=4, crossovers=4)
LARGEST = costs(SPACE.largest())
REFERENCE = Reference(3.0, LARGEST["flops"], "flops")


def trade_off(arch):
    """Lower for more FLOPs, plus a penalty that FLOPs do not explain."""
    heads = sum(int(np.sum(genes == 2)) for genes in arch)
    return 1 - costs(arch)["flops"] / LARGEST["flops"] + heads / 10


def run(score=trade_off, settings=SMALL, seed=0, search=nsga2.search, space=SPACE, **options):
    def one_by_one(trials):
        return (Score(score(trial.arch)) for trial in trials)

    return search(space, settings, score=one_by_one, cost=costs, seed=seed, **options)


def test_equal_evaluations_without_duplicates_from_the_same_first_population():
    found, drawn = run(), run(search=random_search.search)
    assert len(found) == len(drawn) == max_candidates(SMALL)
    assert len({one.arch for one in found}) == len(found)
    assert [one.arch for one in found[:10]] == [one.arch for one in drawn[:10]]
    assert [one.iteration for one in found] == [0] * 10 + [1] * 8 + [2] * 8 + [3] * 8
    assert found == run()
    assert found != run(seed=1)


def test_a_larger_hypervolume_than_random_search():
    settings = SearchConfig(iterations=8, population=20, mutations=10, crossovers=10)
    for seed in range(3):
        front, drawn = (
            hypervolume(run(settings=settings, seed=seed, search=search), REFERENCE)
            for search in (nsga2.search, random_search.search)
        )
        assert front > drawn


@pytest.mark.parametrize("name", ["flops", "params", "active_params"])
def test_any_cost_is_an_objective_under_any_limit(name):
    limit = costs(SPACE.sample(np.random.default_rng(1)))["params"]
    settings = dataclasses.replace(SMALL, objective=name, max_params=limit)
    found = run(settings=settings)
    assert len(found) == max_candidates(settings)
    assert all(one.costs["params"] <= limit for one in found)
    # a loss that is the same for all leaves only the cost to minimise
    flat = run(lambda arch: 1.0, settings=dataclasses.replace(settings, iterations=15))
    assert min(one.costs[name] for one in flat) < min(one.costs[name] for one in flat[:10])


class KilledError(Exception):
    pass


def test_killed_at_every_score_and_started_again_gives_the_same(tmp_path):
    whole = run()
    for k in range(len(whole)):
        path, left = tmp_path / f"{k}.jsonl", k

        def dying_score(arch):
            nonlocal left
            if left == 0:
                raise KilledError
            left -= 1
            return trade_off(arch)

        with pytest.raises(KilledError):
            run(dying_score, record=lambda one, path=path: history.append(path, one))
        known = {one.arch: one.score for one in history.load(path)}
        assert len(known) == k
        again = run(known=known, record=lambda one, path=path: history.append(path, one))
        assert again == whole == history.load(path)


def test_a_small_space_is_searched_whole():
    space = dataclasses.replace(
        SPACE,
        encoder_embed_dims=(16,),
        decoder_embed_dims=(16,),
        encoder_layers=(1,),
        decoder_layers=(1,),
        encoder_self_heads=(2,),
        decoder_self_heads=(2,),
        decoder_cross_heads=(2,),
        encoder_experts=(1, 2),
        decoder_experts=(1,),
        expert_ffn_dims=(16, 32),
        top_k=(1,),
    )
    assert len(run(space=space, settings=dataclasses.replace(SMALL, population=50))) == space.size()


@pytest.mark.parametrize(
    "changes",
    [
        {"mutations": 0},
        {"crossovers": 0},
        {"population": 1, "parents": 1, "mutations": 1, "crossovers": 0},
        {"iterations": 0},
    ],
)
def test_corner_settings_end(changes):
    settings = dataclasses.replace(SMALL, **changes)
    assert settings.population <= len(run(settings=settings)) <= max_candidates(settings)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_dominated_by_all(value):
    width = SPACE.encoder_embed_dims[0]
    found = run(lambda arch: value if arch.encoder_embed_dim == width else trade_off(arch))
    assert len(found) == max_candidates(SMALL)
    assert any(one.loss == math.inf for one in found)
    assert len(run(lambda arch: value)) == max_candidates(SMALL)


def candidate(loss, flops, iteration=0, share=1.0):
    return Candidate(SPACE.smallest(), loss, {"flops": flops}, iteration, "random", share)


def test_hypervolume_by_hand():
    reference = Reference(4.0, 10.0, "flops")
    found = [
        candidate(2, 6),  # 2 · 4 of 40
        candidate(1, 8, 1),  # and 1 · 2 more
        candidate(3, 8, 1),  # dominated
        candidate(math.inf, 1, 2),
        candidate(0.5, 11, 2),  # beyond the reference
        candidate(0.1, 1, 2, share=0.5),  # stopped
    ]
    assert by_generation(found, reference) == pytest.approx([8 / 40, 10 / 40, 10 / 40])
    assert hypervolume([], reference) == 0


@pytest.mark.parametrize("objective", ["latency_ms", "latency_share"])
@pytest.mark.parametrize("limit", ["max_latency_ms", "max_latency_share"])
def test_a_limit_of_latency_makes_both_forms_of_it_known(objective: str, limit: str) -> None:
    settings = SearchConfig(objective=objective, **{limit: 0.8})
    check(Config(search=settings))
    assert without_device(settings).objective == "flops"


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("flop", r"config.search.objective.*must be one of flops.*did you mean 'flops'"),
        ("latency_ms", r"config.search.objective.*needs a limit on it, search.max_latency_ms"),
    ],
)
def test_an_objective_without_values_is_one_sentence(objective, message):
    with pytest.raises(UserError, match=message):
        check(Config(search=SearchConfig(objective=objective)))
