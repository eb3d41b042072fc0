"""The cost on the figures of a search, with its unit and limit."""

import dataclasses

import pytest

from automoe_jax.report.cost_axis import cost_axis, limit_on
from automoe_jax.search.candidate import Candidate
from tests.report.candidates import candidate


def timed(flops: float, ms: float) -> Candidate:
    """A candidate on a device whose largest dense architecture takes 2 ms."""
    one = candidate(1.0, flops, "random")
    return dataclasses.replace(one, costs=one.costs | {"latency_ms": ms, "latency_share": ms / 2})


TIMED = [timed(8.2e6, 1.3), timed(9.1e6, 1.5)]


@pytest.mark.parametrize(
    ("objective", "shown", "short", "title"),
    [
        ("flops", "8.20 MFLOPs", "8.20 M", "MFLOPs of one sentence"),
        ("params", "400 k parameters", "400 k", "k parameters"),
        ("latency_ms", "1.30 ms", "1.30 ms", "predicted ms"),
        ("latency_share", "1.30 ms", "1.30 ms", "predicted ms"),
    ],
)
def test_each_objective_has_its_unit(objective: str, shown: str, short: str, title: str) -> None:
    axis = cost_axis(objective, TIMED)
    value = axis.of(TIMED[0])
    assert (axis.show(value), axis.short(value), axis.title) == (shown, short, title)


@pytest.mark.parametrize("objective", ["latency_share", "memory_mb", "a plugin's"])
def test_flops_stand_for_what_a_candidate_lacks(objective: str) -> None:
    assert cost_axis(objective, [*TIMED, candidate(1.0, 8e6, "random")]).name == "flops"


@pytest.mark.parametrize(
    ("objective", "limits", "expected"),
    [
        ("flops", {"max_flops": 9e6, "max_latency_ms": 1.4}, 9e6),
        ("latency_ms", {"max_latency_ms": 1.4}, 1.4),
        ("latency_share", {"max_latency_share": 0.8}, 1.6),
        ("latency_share", {"max_latency_share": 0.8, "max_latency_ms": 1.4}, 1.4),
        ("latency_ms", {"max_flops": 9e6}, None),
    ],
)
def test_the_limit_is_in_the_unit_of_the_axis(
    objective: str, limits: dict[str, float], expected: float | None
) -> None:
    found = limit_on(cost_axis(objective, TIMED), limits, TIMED)
    assert found == (expected and pytest.approx(expected))


def test_without_candidates_a_share_is_no_limit() -> None:
    assert limit_on(cost_axis("latency_ms", TIMED), {"max_latency_share": 0.8}, []) is None
