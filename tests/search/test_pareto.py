"""The Pareto front against its definition."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automoe_jax.errors import UserError
from automoe_jax.search.candidate import Candidate
from automoe_jax.search.pareto import best, pareto_front
from automoe_jax.space import SearchSpace

ARCH = SearchSpace().smallest()


def candidate(loss, flops, iteration=0):
    return Candidate(ARCH, loss, {"flops": flops, "params": 1}, iteration, "random")


def dominates(a, b):
    return a.loss <= b.loss and a.flops <= b.flops and (a.loss < b.loss or a.flops < b.flops)


points = st.lists(
    st.tuples(st.one_of(st.integers(0, 6), st.just(math.inf)), st.integers(1, 6)), max_size=25
)


@given(points)
def test_front_is_what_nothing_dominates(values):
    found = [candidate(loss, flops, i) for i, (loss, flops) in enumerate(values)]
    front = pareto_front(found)
    expected = {
        (one.loss, one.flops)
        for one in found
        if one.loss < math.inf and not any(dominates(other, one) for other in found)
    }
    assert [(one.loss, one.flops) for one in front] == sorted(expected, key=lambda point: point[1])
    for one in front:
        assert one == next(
            other for other in found if (other.loss, other.flops) == (one.loss, one.flops)
        )


@given(points.filter(lambda values: any(loss < math.inf for loss, _ in values)))
def test_best_ends_the_front(values):
    found = [candidate(loss, flops, i) for i, (loss, flops) in enumerate(values)]
    assert best(found) == pareto_front(found)[-1]


def test_nothing_to_choose_from():
    assert pareto_front([]) == []
    with pytest.raises(UserError, match="finite loss"):
        best([])


def test_stopped_ones_win_nothing():
    complete, stopped = candidate(2, 2), dataclasses.replace(candidate(1, 1), share=0.25)
    assert best([stopped, complete]) == complete
    assert pareto_front([stopped, complete]) == [complete]
    with pytest.raises(UserError, match="finite loss"):
        best([stopped])


def test_numpy_numbers_are_fine():
    assert best([candidate(np.float32(2), 1), candidate(np.float32(1), 2)]).flops == 2
