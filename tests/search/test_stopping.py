"""Early stopping: the estimate against its definition, and whole searches with equal results with
and without it.
"""

import dataclasses
import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automoe_jax.config import TOP_K, SearchConfig
from automoe_jax.data.tokenizer import EOS, PAD
from automoe_jax.search import history
from automoe_jax.search.evaluator import cut_text
from automoe_jax.search.evolution import evolve
from automoe_jax.search.limits import Conditions, cost_function
from automoe_jax.search.pareto import best, pareto_front
from automoe_jax.search.stopping import FILLING, Cut, Recent, Scorer, Trial
from tests.search.test_evolution import SPACE, KilledError

SETTINGS = SearchConfig(iterations=4, population=24, parents=6, mutations=12, crossovers=12)


def batches(*counts, rows=4):
    """For each bucket 3, 6, 9 … batches of `rows` with `sentences` sentences in total; each
    sentence's second token is its number.
    """
    found, number = [], 10
    for bucket, count in zip(range(3, 100, 3), counts, strict=False):
        tokens = np.full((-(-count // rows) * rows, bucket), PAD, np.int32)
        for row in tokens[:count]:
            row[:3] = 5, number, EOS
            number += 1
        found += [
            {"source": part, "target": part} for part in np.split(tokens, len(tokens) // rows)
        ]
    return found


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.integers(1, 6),
    st.sampled_from([1, 2, 8]),
)
def test_every_sentence_is_in_one_part_and_a_bucket_has_one_shape(counts, parts, multiple_of):
    cut, dealt = cut_text(batches(*counts), parts, multiple_of)
    assert cut.parts == len(dealt) == min(parts, max(counts))
    assert cut.tokens == 3 * sum(counts)
    everything = [batch["target"] for part in dealt for batch in part]
    numbers = [int(row[1]) for tokens in everything for row in tokens if row[0] != PAD]
    assert sorted(numbers) == list(range(10, 10 + sum(counts)))
    assert len({tokens.shape for tokens in everything}) == len(counts)
    assert all(len(tokens) % multiple_of == 0 for tokens in everything)
    for part, strata in zip(dealt, cut.strata, strict=True):
        real = np.concatenate([batch["target"][:, 0] != PAD for batch in part])
        np.testing.assert_array_equal(real, strata != FILLING)
        for stratum, count in enumerate(counts):
            assert abs(np.sum(strata == stratum) - count / parts) < 1


def test_the_estimate_is_unbiased_and_its_error_is_that_of_the_estimates():
    """Over many random texts; at the end of a text the estimate is the sum itself."""
    cut, _ = cut_text(batches(100, 60, 40), 4)
    rng, z = np.random.default_rng(0), []
    for _ in range(2000):
        values = [
            np.where(strata == FILLING, 0, rng.gamma(1.0, 2.0, len(strata)) * (1 + strata))
            for strata in cut.strata
        ]
        whole = np.concatenate(values).sum()
        guess = cut.estimate(np.concatenate(values[:2]), 2)
        z.append((guess.total - whole) / guess.error)
        last = cut.estimate(np.concatenate(values), 4)
        assert last.total == pytest.approx(whole)
        assert last.error == 0
    assert abs(np.mean(z)) < 0.1
    assert 0.8 < np.std(z) < 1.05  # strata make it slightly smaller than the error


def test_one_sentence_says_nothing():
    cut = Cut((np.array([0]), np.array([0])), 2)
    assert cut.estimate(np.array([3.0]), 1) == (6.0, math.inf)


def noisy_text(seed, spread, same=0.0):
    """(cut, nll) of invented losses: a quality that improves with every optimal gene, and sentences
    with different noise.

    `same`: share of sentences on which an architecture equals the best one, which makes near-ties.
    """
    cut, _ = cut_text(batches(80, 60, 30), 4)
    target, asked = SPACE.sample(np.random.default_rng(seed)), []

    def nll(arch, parts):
        asked.extend((arch, part) for part in parts)
        wrong = sum(int(np.sum(a != b)) for a, b in zip(arch, target, strict=True))
        rng = np.random.default_rng((seed, zlib.crc32(arch.to_json().encode())))
        values = []
        for strata in cut.strata:
            own = 0.02 * wrong * (rng.random(len(strata)) >= same) + spread * rng.standard_normal(
                len(strata)
            )
            values.append(np.where(strata == FILLING, 0.0, 3 + strata + own))
        return lambda: np.concatenate([values[part] for part in parts])

    return cut, nll, asked


def searched(cut, nll, standard_errors, seed=0, objective="flops", **options):
    settings = dataclasses.replace(SETTINGS, stop_early=standard_errors, objective=objective)
    return evolve(
        SPACE,
        settings,
        score=Scorer(cut, nll, standard_errors),
        cost=cost_function(Conditions(settings, TOP_K)),
        seed=seed,
        **options,
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_front_of_another_objective_is_whole(seed):
    """Early stopping spares what may be on the front that the search writes."""
    cut, nll, asked = noisy_text(seed, 0.001)
    whole = searched(cut, nll, 0.0, seed, "params")
    spent = len(asked)
    asked.clear()
    early = searched(cut, nll, 5.0, seed, "params")
    assert pareto_front(early, "params") == pareto_front(whole, "params")
    assert len(asked) < 0.9 * spent


@pytest.mark.parametrize(
    ("spread", "same"),
    [(0.001, 0.0), (0.05, 0.0), (0.3, 0.0), (2.0, 0.0), (0.0, 0.9), (0.02, 0.97)],
)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_changes_but_what_is_spent(seed, spread, same):
    """The same draws, parents, front and best candidate, for low and for high noise."""
    cut, nll, asked = noisy_text(seed, spread, same)
    whole = searched(cut, nll, 0.0, seed)
    spent = len(asked)
    asked.clear()
    early = searched(cut, nll, 5.0, seed)
    assert [one.arch for one in early] == [one.arch for one in whole]
    assert best(early) == best(whole)
    assert pareto_front(early) == pareto_front(whole)
    assert [one for one in early if one.complete] == [
        b for a, b in zip(early, whole, strict=True) if a.complete
    ]
    assert len(asked) <= spent + 2 * SETTINGS.iterations
    stopped = [one for one in early if not one.complete]
    assert all(0 < one.share < 1 and one.loss > best(early).loss for one in stopped)
    if spread <= 0.05 and same < 0.9:
        assert len(stopped) > 10
        assert len(asked) < 0.9 * spent


def test_estimates_are_near_the_losses():
    cut, nll, _ = noisy_text(1, 0.05)
    early, whole = searched(cut, nll, 5.0, 1), searched(cut, nll, 0.0, 1)
    for a, b in zip(early, whole, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=0, abs=0.05)


def test_stopping_on_little_evidence_does_change_the_search():
    """Check of the comparison above: at a tenth of a standard error, other candidates win."""
    differing = 0
    for seed in range(4):
        cut, nll, _ = noisy_text(seed, 2.0)
        differing += [one.arch for one in searched(cut, nll, 0.1, seed)] != [
            one.arch for one in searched(cut, nll, 0.0, seed)
        ]
    assert differing > 0


def test_killed_in_the_middle_of_generations_and_started_again_gives_the_same(tmp_path):
    cut, nll, _ = noisy_text(2, 0.05)
    whole = searched(cut, nll, 5.0)
    assert any(not one.complete for one in whole)
    for kept in range(0, len(whole), 17):
        path = tmp_path / f"{kept}.jsonl"

        def record(one, path=path, kept=kept):
            history.append(path, one)
            if len(history.load(path)) == kept:
                raise KilledError

        if kept:
            with pytest.raises(KilledError):
                searched(cut, nll, 5.0, record=record)
        known = {one.arch: one.score for one in history.load(path)}
        assert (
            searched(
                cut, nll, 5.0, known=known, record=lambda one, path=path: history.append(path, one)
            )
            == whole
        )
        assert history.load(path) == whole


def test_results_come_in_order_and_two_are_in_flight():
    cut, nll, asked = noisy_text(0, 0.05)
    archs = [SPACE.sample(np.random.default_rng(i)) for i in range(6)]
    score = Scorer(cut, nll, 5.0)
    rival = SPACE.sample(np.random.default_rng(99))
    list(score([Trial(rival)]))
    asked.clear()
    scores = score([Trial(arch, rival) for arch in archs])
    assert asked == []
    first = next(scores)
    assert {arch for arch, _ in asked} == set(archs[:2])
    assert [first, *scores] == [next(Scorer(cut, nll, 5.0)([Trial(arch, rival)])) for arch in archs]


def test_a_loss_that_is_not_finite_stops_nothing_and_is_no_rival():
    cut, nll, _ = noisy_text(0, 0.05)
    broken = SPACE.largest()

    def sometimes(arch, parts):
        rows = nll(arch, parts)
        return (
            (lambda: rows() * np.nan)
            if arch.encoder_embed_dim == broken.encoder_embed_dim
            else rows
        )

    found = searched(cut, sometimes, 5.0)
    bad = [one for one in found if one.arch.encoder_embed_dim == broken.encoder_embed_dim]
    assert bad
    assert all(one.complete and one.loss == math.inf for one in bad)
    assert [one.arch for one in searched(cut, sometimes, 0.0)] == [one.arch for one in found]


def test_recent_keeps_what_fits_and_was_used_last():
    recent = Recent(10, len)
    for key in "abc":
        recent.put(key, key * 4)
    assert [recent.get(key) for key in "abc"] == [None, "bbbb", "cccc"]
    recent.get("b")
    recent.put("d", "dddd")
    assert [recent.get(key) for key in "bcd"] == ["bbbb", None, "dddd"]
    assert recent.put("e", "e" * 11) == "e" * 11
    assert recent.get("e") is None
