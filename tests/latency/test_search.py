"""Finalists of a search, measured until one is reliably within the limit of latency."""

import dataclasses
from collections.abc import Callable

import pytest

from automoe_jax.config import Config, from_config_dict
from automoe_jax.errors import UserError
from automoe_jax.latency import search
from automoe_jax.latency.search import DECIDING, MARGIN, finalists
from automoe_jax.model.network import Spec
from automoe_jax.search.candidate import Candidate
from tests.report.candidates import candidate
from tests.stages.tiny import get_config

DENSE_MS = 10.0
LIMIT = 8.0  # 0.8 of that
FREE = (1 - MARGIN) * LIMIT


@pytest.fixture
def config() -> Config:
    values = get_config()
    with values.unlocked():
        values.search.max_latency_share = LIMIT / DENSE_MS
    return from_config_dict(values)


def timed_as(
    monkeypatch: pytest.MonkeyPatch, answers: Callable[[int, float], float]
) -> list[tuple[int, float]]:
    """Measurements of `answers`(the candidate's number, seconds); the list is of those asked."""
    asked: list[tuple[int, float]] = []

    def build(arch: int, *_: object) -> int:
        return arch

    def milliseconds(models: list[int], rounds: int, seconds: float) -> list[float]:
        asked.extend((model, seconds) for model in models[1:])
        return [DENSE_MS, *(answers(model, seconds) for model in models[1:])]

    monkeypatch.setattr(search, "build", build)
    monkeypatch.setattr(search, "milliseconds", milliseconds)
    monkeypatch.setattr(search, "largest_dense", lambda *_: None)
    return asked


def ranked(count: int) -> list[Candidate]:
    """Candidates 0, 1 … with rising loss; their number stands for the architecture."""
    found = [candidate(1.0 + number, 1e6, "random") for number in range(count)]
    return [
        dataclasses.replace(one, arch=number, costs=one.costs | {"latency_ms": 7.0})
        for number, one in enumerate(found)
    ]


def spec(config: Config) -> Spec:
    return Spec(config.space, vocab_size=300)


def test_one_that_was_admitted_by_chance_is_measured_again(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    times = {0: (FREE - 0.1, FREE + 0.1), 1: (FREE - 0.2, FREE - 0.1), 2: (9.0, 9.0), 3: (9.0, 9.0)}
    asked = timed_as(monkeypatch, lambda number, seconds: times[number][1 if seconds else 0])
    found = finalists(config, spec(config), ranked(8))
    assert [one.candidate.arch for one in found if one.admitted] == [1]
    assert found[0].measured == times[1][1], "the second measurement counts"
    assert asked == [*((number, 0.0) for number in range(4)), (0, DECIDING), (1, DECIDING)]


def test_the_margin_is_kept_free(config: Config, monkeypatch: pytest.MonkeyPatch):
    timed_as(monkeypatch, lambda number, _: LIMIT - 0.01 if number < 5 else FREE - 0.01)
    found = finalists(config, spec(config), ranked(8))
    assert found[0].candidate.arch == 5
    assert sum(one.admitted for one in found) == 3


def test_none_within_the_limit_says_how_fast_the_fastest_is(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    timed_as(monkeypatch, lambda number, _: 12.0 - number)
    with pytest.raises(UserError, match=r"none of the 4 best .* 3% .* fastest takes 9 ms"):
        finalists(config, spec(config), ranked(4))
