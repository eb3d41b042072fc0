"""The file of candidates: everything that was complete before a kill is read back."""

import json

import numpy as np
import pytest
from etils import epath

from automoe_jax.config import TOP_K, SearchConfig
from automoe_jax.errors import UserError
from automoe_jax.runtime.files import write_json
from automoe_jax.search import history
from automoe_jax.search.candidate import Candidate, Score
from automoe_jax.search.limits import Conditions, cost_function
from automoe_jax.space import SearchSpace

costs = cost_function(Conditions(SearchConfig(), TOP_K))


def candidates(count):
    space, rng = SearchSpace(encoder_layers=(1,), decoder_layers=(1,)), np.random.default_rng(0)
    return [
        Candidate.scored(arch, Score(i / 3, 1 / (i + 1)), costs(arch), i, "random")
        for i, arch in enumerate(space.sample(rng) for _ in range(count))
    ]


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "history.jsonl"
    for one in candidates(3):
        history.append(path, one)
    return path


def test_what_is_appended_is_loaded(written):
    assert history.load(written) == candidates(3)


def test_no_file_holds_no_candidates(tmp_path):
    assert history.load(tmp_path / "none.jsonl") == []
    (tmp_path / "empty.jsonl").touch()
    assert history.load(tmp_path / "empty.jsonl") == []


def test_half_a_line_is_dropped_and_cut_off(written):
    whole = written.read_bytes()
    starts = [0, *[i + 1 for i, byte in enumerate(whole) if byte == 10]]
    for kept in (1, starts[1] - 1, starts[1], starts[2] + 5, len(whole) - 1):
        complete = sum(start <= kept for start in starts) - 1
        written.write_bytes(whole[:kept])
        assert history.load(written) == candidates(3)[:complete]
        history.append(written, candidates(3)[2])
        assert history.load(written) == [*candidates(3)[:complete], candidates(3)[2]]


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        "{}",
        json.dumps(candidates(1)[0].to_dict() | {"loss": "low"}),
        json.dumps(candidates(1)[0].to_dict() | {"colour": 1}),
        json.dumps(candidates(1)[0].to_dict() | {"arch": {}}),
        "\udcff",
        "",
    ],
)
def test_corrupt_line_is_named(written, damage):
    lines = written.read_bytes().split(b"\n")
    lines[1] = damage.encode("utf-8", "surrogateescape")
    written.write_bytes(b"\n".join(lines))
    with pytest.raises(
        UserError, match=r"history.jsonl, line 2 does not hold a candidate .*; delete the line"
    ):
        history.load(written)


def test_infinite_loss_is_plain_json(tmp_path):
    one = Candidate.scored(
        candidates(1)[0].arch, Score(float("nan")), costs(candidates(1)[0].arch), 0, "random"
    )
    history.append(tmp_path / "h.jsonl", one)
    assert json.loads((tmp_path / "h.jsonl").read_text(encoding="utf-8"))["loss"] is None
    assert history.load(tmp_path / "h.jsonl") == [one]


def test_candidates_of_before_there_was_stopping_are_complete():
    older = {name: value for name, value in candidates(2)[1].to_dict().items() if name != "share"}
    assert Candidate.from_dict(older).complete
    assert not candidates(2)[1].complete


def test_a_front_is_loaded_or_named(tmp_path):
    path = epath.Path(tmp_path / "pareto.json")
    assert history.load_front(path) == []
    write_json(path, [one.to_dict() for one in candidates(2)])
    assert history.load_front(path) == candidates(2)
    write_json(path, [{"loss": 1.0}])
    with pytest.raises(UserError, match=r"pareto\.json does not hold a Pareto front"):
        history.load_front(path)
