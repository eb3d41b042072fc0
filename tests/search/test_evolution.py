"""The search on scores whose optimum is known: found, repeatable, resumable, within the limits."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from automoe_jax.config import TOP_K, SearchConfig
from automoe_jax.errors import UserError
from automoe_jax.search import history, random_search
from automoe_jax.search.candidate import Score
from automoe_jax.search.evolution import evolve, max_candidates
from automoe_jax.search.limits import Conditions, cost_function, within_limits
from automoe_jax.search.pareto import best
from automoe_jax.search.sampling import even_draws
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
SMALL = SearchConfig(iterations=3, population=10, parents=3, mutations=4, crossovers=4)
TWELVE = dataclasses.replace(
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


def hashed_score(arch):
    """A number that depends only on the architecture."""
    return (sum(arch.to_json().encode()) * 7919 % 1000) / 1000


def rugged(target):
    """A score that is 0 at `target` and grows with the number of differing genes."""
    return lambda arch: float(sum(np.sum(a != b) for a, b in zip(arch, target, strict=True)))


def run(score=hashed_score, space=SPACE, limits=SMALL, seed=0, search=evolve, **options):
    """A search whose candidates are scored one by one, each on the whole text."""

    def one_by_one(trials):
        return (Score(score(trial.arch)) for trial in trials)

    return search(space, limits, score=one_by_one, cost=costs, seed=seed, **options)


def test_finds_the_optimum():
    target = SPACE.sample(np.random.default_rng(7))
    found = run(
        rugged(target),
        limits=SearchConfig(iterations=25, population=40, parents=8, mutations=16, crossovers=16),
    )
    assert best(found).arch == target
    assert found[-1].iteration == 25


def test_beats_its_own_random_population():
    found = run(
        rugged(SPACE.largest()),
        limits=SearchConfig(iterations=8, population=30, parents=8, mutations=12, crossovers=12),
    )
    assert best(found).loss < best(one for one in found if one.iteration == 0).loss


@pytest.mark.parametrize("search", [evolve, random_search.search], ids=["evolution", "random"])
def test_the_first_architectures_are_even_draws_within_the_limits(search):
    """Under a limit that 5 % of the space meet, their costs are distributed as those of
    `even_draws`; candidates that are shrunk until they fit would be cheaper.
    """
    rng = np.random.default_rng(3)
    plain = [costs(SPACE.sample(rng))["flops"] for _ in range(2000)]
    limits = dataclasses.replace(
        SMALL, iterations=0, population=300, max_flops=np.quantile(plain, 0.05)
    )
    found = run(lambda arch: 0.0, limits=limits, search=search)
    assert len(found) == 300
    draw = even_draws(SPACE, limits, costs)
    even = [costs(draw(rng))["flops"] for _ in range(1500)]
    assert stats.ks_2samp([one.costs["flops"] for one in found], even).pvalue > 1e-3
    shrunk = [costs(shrink(SPACE.sample(rng), limits, rng))["flops"] for _ in range(300)]
    assert stats.ks_2samp(shrunk, even).pvalue < 1e-6, "the test would notice"


def shrink(arch, limits, rng):
    """`arch` crossed with the smallest one until the limits admit it."""
    while not within_limits(costs(arch), limits):
        arch = SPACE.crossover(arch, SPACE.smallest(), rng)
    return arch


def test_generations_are_complete_and_the_last_is_scored():
    found = run()
    assert len(found) == max_candidates(SMALL) == 10 + 3 * 8
    counts = {(i, origin): 0 for i in range(4) for origin in ("random", "mutation", "crossover")}
    for one in found:
        counts[one.iteration, one.origin] += 1
    assert counts == {
        (i, origin): (10 if i == 0 else 0) if origin == "random" else (4 if i else 0)
        for i in range(4)
        for origin in ("random", "mutation", "crossover")
    }


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_same_seed_same_search_and_no_duplicates(seed):
    calls = []

    def score(arch):
        calls.append(arch)
        return hashed_score(arch)

    found = run(score, seed=seed)
    assert found == run(seed=seed)
    assert len(set(calls)) == len(calls) == len(found)
    assert [one.arch for one in found] == calls
    for one in found:
        assert SPACE.contains(one.arch)
        assert one.costs == costs(one.arch)


def test_other_seeds_draw_others():
    assert run(seed=0) != run(seed=1)


class KilledError(Exception):
    pass


def test_killed_at_every_score_and_started_again_gives_the_same(tmp_path):
    tight = costs(SPACE.sample(np.random.default_rng(1)))["flops"]
    limits = SearchConfig(
        iterations=2, population=6, parents=3, mutations=3, crossovers=3, max_flops=tight
    )
    whole = run(limits=limits)
    for k in range(len(whole)):
        path = tmp_path / f"{k}.jsonl"
        left = k

        def dying_score(arch):
            nonlocal left
            if left == 0:
                raise KilledError
            left -= 1
            return hashed_score(arch)

        with pytest.raises(KilledError):
            run(dying_score, limits=limits, record=lambda one, path=path: history.append(path, one))
        known = {one.arch: one.score for one in history.load(path)}
        assert len(known) == k
        again = run(
            limits=limits, known=known, record=lambda one, path=path: history.append(path, one)
        )
        assert again == whole
        assert history.load(path) == whole


def test_each_candidate_is_recorded_before_the_next_is_scored():
    events = []
    run(lambda arch: events.append("score") or 1.0, record=lambda one: events.append("record"))
    assert events == ["score", "record"] * max_candidates(SMALL)


@pytest.mark.parametrize("name", ["max_flops", "max_params", "max_active_params"])
@pytest.mark.parametrize("slack", [1.0, 1.3])
def test_limits_hold_however_tight(name, slack):
    field = name.removeprefix("max_")
    limit = slack * costs(SPACE.smallest())[field]
    asked = []
    limits = SearchConfig(
        iterations=1, population=6, parents=3, mutations=3, crossovers=3, **{name: limit}
    )
    found = run(lambda arch: asked.append(arch) or hashed_score(arch), limits=limits)
    assert found
    assert all(costs(arch)[field] <= limit for arch in asked)
    assert all(within_limits(costs(one.arch), limits) for one in found)


def test_several_limits_hold_together():
    middle = costs(SPACE.sample(np.random.default_rng(3)))
    limits = dataclasses.replace(
        SMALL,
        max_flops=middle["flops"],
        max_params=middle["params"],
        max_active_params=middle["active_params"],
    )
    for one in run(limits=limits):
        assert all(one.costs[name] <= middle[name] for name in middle)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("max_flops", "FLOPs"),
        ("max_params", "parameters"),
        ("max_active_params", "active parameters"),
    ],
)
def test_unreachable_limit_says_what_the_smallest_costs(name, unit):
    least = costs(SPACE.smallest())[name.removeprefix("max_")]
    with pytest.raises(
        UserError,
        match=(
            rf"search.{name}=1e2 is below the smallest architecture of this space \([\d.]+e\d"
            rf" {unit}; it also has [^)]+\); raise it"
        ),
    ) as raised:
        run(lambda arch: pytest.fail("scored"), limits=dataclasses.replace(SMALL, **{name: 100.0}))
    advised = float(str(raised.value).partition("(")[2].partition(" ")[0])
    assert least <= advised <= 1.001 * least
    run(
        limits=SearchConfig(
            iterations=1, population=2, parents=1, mutations=1, crossovers=1, **{name: advised}
        )
    )


def test_message_of_the_published_space():
    with pytest.raises(
        UserError,
        match=(
            r"^search.max_flops=1e8 is below the smallest architecture of this space \(9.593e8"
            r" FLOPs; it also has [^)]+\); raise it"
        ),
    ):
        run(space=SearchSpace(), limits=SearchConfig(max_flops=1e8))


def test_space_smaller_than_the_population_is_searched_whole():
    found = run(space=TWELVE, limits=SearchConfig(iterations=2, population=50))
    assert TWELVE.size() == len(found) == len({one.arch for one in found}) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"mutations": 0},
        {"crossovers": 0},
        {"mutations": 0, "crossovers": 0},
        {"parents": 1, "mutations": 0},
        {"population": 1, "parents": 1, "mutations": 1, "crossovers": 0, "iterations": 1},
        {"mutation_prob": 1.0},
    ],
)
def test_corner_settings_end(changes):
    limits = dataclasses.replace(SMALL, **changes)
    found = run(limits=limits)
    assert limits.population <= len(found) <= max_candidates(limits)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_score_that_is_not_finite_is_the_worst_and_recorded(value):
    records = []
    widths = SPACE.encoder_embed_dims
    found = run(
        lambda arch: value if arch.encoder_embed_dim == widths[0] else hashed_score(arch),
        record=records.append,
    )
    bad = [one for one in found if one.arch.encoder_embed_dim == widths[0]]
    assert bad
    assert all(one.loss == math.inf for one in bad)
    assert records == found
    assert best(found).loss < math.inf
    with pytest.raises(UserError, match="no candidate of the search has a finite loss"):
        best(run(lambda arch: value))


def test_ties_are_broken_by_cost():
    assert best(run(lambda arch: 1.0)).flops == min(one.flops for one in run(lambda arch: 1.0))


def test_progress_counts_known_ones_too():
    whole = run()
    seen = []
    known = {one.arch: one.score for one in whole[:7]}
    run(known=known, progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == list(range(1, len(whole) + 1))
    assert [lowest for _, _, lowest in seen] == [
        min(one.loss for one in whole[: i + 1]) for i in range(len(whole))
    ]
    assert [iteration for iteration, _, _ in seen] == [one.iteration for one in whole]


def test_known_scores_are_not_asked_for_nor_recorded_again():
    whole = run()
    records = []
    again = run(
        lambda arch: pytest.fail("scored again"),
        known={one.arch: one.score for one in whole},
        record=records.append,
    )
    assert again == whole
    assert records == []


def test_losses_survive_json_exactly():
    for one in run(lambda arch: hashed_score(arch) / 3):
        assert type(one).from_dict(json.loads(json.dumps(one.to_dict()))) == one
