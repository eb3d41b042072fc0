"""Finalists of a search, measured until one is reliably within the limit of latency."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from automoe_jax.arch import Arch
from automoe_jax.config import Config, from_config_dict
from automoe_jax.errors import UserError
from automoe_jax.latency import search
from automoe_jax.latency.search import MARGIN, finalists, searched_within, timed
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
    monkeypatch: pytest.MonkeyPatch,
    first: Callable[[int], float],
    repeats: Callable[[int], tuple[float, float, float]],
) -> list[int]:
    """Measurements of these milliseconds, by the candidate's number; the list is of the numbers
    measured repeatedly.
    """
    asked: list[int] = []

    def build(arch: int, *_: object) -> int:
        return arch

    def milliseconds(models: list[int], rounds: int) -> list[float]:
        return [DENSE_MS, *map(first, models[1:])]

    def repeated(models: list[int], rounds: int, title: str) -> np.ndarray:
        asked.extend(models[1:])
        return np.transpose([(DENSE_MS,) * 3, *map(repeats, models[1:])])

    monkeypatch.setattr(search, "build", build)
    monkeypatch.setattr(search, "milliseconds", milliseconds)
    monkeypatch.setattr(search, "repeated", repeated)
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
    first = (FREE - 0.1, FREE - 0.2, 9.0, 9.0)
    repeats = ((FREE + 0.2, FREE + 0.1, FREE + 0.3), (FREE - 0.3, FREE - 0.1, FREE - 0.2))
    asked = timed_as(monkeypatch, first.__getitem__, repeats.__getitem__)
    found = finalists(config, spec(config), ranked(8))
    assert [one.candidate.arch for one in found if one.admitted] == [1]
    assert found[0].measured == FREE - 0.2, "the median of the repeats counts"
    assert asked == [0, 1]


def test_where_measurements_differ_more_is_kept_free(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    def repeats(number: int) -> tuple[float, float, float]:
        spread = 0.5 if number == 0 else 0.01
        return FREE - 0.1, FREE - 0.1 - spread, FREE - 0.1 + spread

    timed_as(monkeypatch, lambda _: FREE - 0.1, repeats)
    found = finalists(config, spec(config), ranked(4))
    assert [one.candidate.arch for one in found if one.admitted] == [1, 2, 3]
    assert {one.measured for one in found} == {FREE - 0.1}


def test_the_margin_is_kept_free(config: Config, monkeypatch: pytest.MonkeyPatch):
    def ms(number: int) -> float:
        return LIMIT - 0.01 if number < 5 else FREE - 0.01

    timed_as(monkeypatch, ms, lambda number: (ms(number),) * 3)
    found = finalists(config, spec(config), ranked(8))
    assert found[0].candidate.arch == 5
    assert sum(one.admitted for one in found) == 3


def test_a_share_is_of_the_dense_network_in_the_same_measurement(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    slow = np.array([[1.0], [3.0], [1.0]])  # the device, in the second measurement
    times = slow * [DENSE_MS, LIMIT - 0.1, LIMIT + 0.1]
    times[1, 1] += 1.0  # of three measurements the median decides
    monkeypatch.setattr(search, "repeated", lambda *_: times)
    within, beyond = timed(config, None, [None, None])
    assert (within.ms, within.admitted) == (LIMIT - 0.1, True)
    assert (beyond.ms, beyond.admitted) == (LIMIT + 0.1, False)


def test_none_within_the_limit_says_how_fast_the_fastest_is(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    timed_as(monkeypatch, lambda number: 12.0 - number, lambda number: (0.0,) * 3)
    with pytest.raises(UserError, match=r"none of the 4 best .* 8% .* fastest takes 9 ms"):
        finalists(config, spec(config), ranked(4))


@pytest.mark.parametrize(("smallest", "margin"), [(FREE - 0.1, MARGIN), (FREE + 0.1, 0.0)])
def test_a_search_draws_what_can_become_a_finalist(config: Config, smallest: float, margin: float):
    def cost(arch: Arch) -> dict[str, float]:
        assert arch == config.space.smallest()
        return {"latency_ms": smallest, "latency_share": smallest / DENSE_MS}

    both = dataclasses.replace(config.search, max_latency_ms=LIMIT)
    found = searched_within(dataclasses.replace(config, search=both), config.space, cost)
    assert found.max_latency_ms == pytest.approx((1 - margin) * LIMIT)
    assert found.max_latency_share == pytest.approx((1 - margin) * LIMIT / DENSE_MS)


def test_the_limits_of_another_device_keep_nothing_free(config: Config):
    device = dataclasses.replace(config.search.device, file="device.jsonl")
    there = dataclasses.replace(config, search=dataclasses.replace(config.search, device=device))
    assert searched_within(there, config.space, lambda _: {}) is there.search
