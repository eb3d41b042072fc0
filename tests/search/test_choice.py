"""The architecture to retrain, by the setting that names it."""

import dataclasses
import math
import re

import numpy as np
import pytest

from automoe_jax.config import Config, RetrainConfig, check
from automoe_jax.errors import UserError
from automoe_jax.search.candidate import Candidate
from automoe_jax.search.choice import chosen, read_arch
from automoe_jax.search.pareto import pareto_front
from automoe_jax.space import SearchSpace

RNG = np.random.default_rng(0)
SPACE = SearchSpace()


def candidate(loss, flops, share=1.0, **costs):
    arch = SPACE.sample(RNG)
    return Candidate(arch, loss, {"flops": flops, "params": 1, **costs}, 0, "random", share)


FOUND = [
    candidate(2.0, 10),
    candidate(1.0, 50),
    candidate(1.02, 30),
    candidate(1.03, 20),
    candidate(1.01, 5, share=0.5),  # stopped: its loss is an estimate
    candidate(math.inf, 1),
    candidate(1.5, 60),
]
FRONT = pareto_front(FOUND)


@pytest.mark.parametrize(
    ("choice", "loss"),
    [
        ("front:1", 2.0),
        ("front:2", 1.03),
        ("front:4", 1.0),
        ("fastest:1", 1.0),
        ("fastest:0.98", 1.02),
        ("fastest:0.9", 1.03),
        ("fastest:0.5", 2.0),
    ],
)
def test_choices(choice, loss):
    assert chosen(choice, FOUND, FRONT).loss == loss


def test_fastest_by_latency_where_it_is_known():
    found = [candidate(1.0, 10, latency_ms=9.0), candidate(1.0, 20, latency_ms=8.0)]
    assert chosen("fastest:0.98", found, found) is found[1]


def test_a_member_that_does_not_exist_gives_the_valid_range():
    message = r"front:5 is not on the Pareto front .* 4 architectures; set front:1 .* to front:4"
    with pytest.raises(UserError, match=message):
        chosen("front:5", FOUND, FRONT)


@pytest.mark.parametrize(
    "choice", ["", "worst", "front:", "front:0", "front:-1", "front:x", "fastest:0", "fastest:1.1"]
)
def test_other_words_are_refused_before_anything_runs(choice):
    with pytest.raises(UserError, match=r"config.retrain.arch.*must be 'best', 'front:N'"):
        check(Config(retrain=RetrainConfig(arch=choice)))


def test_a_choice_needs_a_search():
    alone = SearchSpace(
        **{
            field.name: getattr(SPACE, field.name)[-1:]
            for field in dataclasses.fields(SPACE)
            if isinstance(getattr(SPACE, field.name), tuple)
        }
    )
    assert alone.size() == 1
    with pytest.raises(UserError, match=r"needs a search"):
        check(Config(space=alone, retrain=RetrainConfig(arch="front:1")))


def test_a_file_with_an_architecture_or_anything_else():
    arch = SPACE.sample(RNG)
    assert read_arch("a.json", arch.to_json()) == arch
    for text in ("{}", "[1]", "no JSON"):
        with pytest.raises(UserError, match=re.escape("config.retrain.arch=a.json holds no")):
            read_arch("a.json", text)
