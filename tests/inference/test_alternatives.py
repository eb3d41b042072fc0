"""Several translations of each line."""

import json
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from automoe_jax.errors import UserError
from automoe_jax.inference.alternatives import (
    Alternative,
    alternatives,
    as_json,
    as_text,
    checked_beam,
    checked_best,
)
from automoe_jax.inference.decode import hypotheses
from automoe_jax.inference.engine.hypotheses import Hypothesis
from automoe_jax.inference.engine.translator import load
from tests.inference.engine import folders


class Letters:
    """A tokenizer whose pieces are letters."""

    def encode(self, lines: Sequence[str]) -> list[np.ndarray]:
        return [np.array([ord(letter) for letter in line], np.int32) for line in lines]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(map(chr, ids))


def in_capitals(sources: list[np.ndarray], best: int) -> list[list[Hypothesis]]:
    """The source in capitals with a score of −1, then with each further piece removed, −2, …"""
    return [
        [Hypothesis(source[i:] - 32, -1.0 - i) for i in range(min(best, len(source)))]
        for source in sources
    ]


def test_parts_of_a_long_line_are_joined() -> None:
    found = alternatives(in_capitals, Letters(), ["abcde", "", "xy"], longest=3, best=3)
    assert found == [
        [Alternative("ABC DE", -2.0), Alternative("BC E", -4.0)],
        [Alternative("", 0.0)],
        [Alternative("XY", -1.0), Alternative("Y", -2.0)],
    ]


def test_formats() -> None:
    found = [Alternative("Ü |", -0.25), Alternative("", -1)]
    assert as_text(7, found) == ["7 ||| Ü | ||| -0.2500", "7 |||  ||| -1.0000"]
    line = as_json("ü\n", found)
    assert "\n" not in line
    assert "Ü" in line
    assert json.loads(line) == {
        "source": "ü\n",
        "translations": [{"text": "Ü |", "score": -0.25}, {"text": "", "score": -1.0}],
    }


@pytest.mark.parametrize("best", [0, 6])
def test_no_more_than_beams(best: int) -> None:
    with pytest.raises(UserError, match=f"--n_best={best} must be between 1 and the beam size, 5"):
        checked_best(best, 5)


def test_engines_agree(tmp_path: pathlib.Path) -> None:
    translator = load(folders.write(tmp_path / "model"))
    _, network = folders.network()
    sources = translator.tokenizer.encode(folders.LINES)
    expected = hypotheses(
        network,
        sources,
        buckets=folders.BUCKETS,
        beam_size=3,
        length_penalty=0.6,
        batch_sizes=(8,),
        best=3,
    )
    found = translator.hypotheses(sources, best=3)
    assert [len(own) for own in found] == [len(own) for own in expected]
    for own, other in zip(found, expected, strict=True):
        assert sorted((one.score for one in own), reverse=True) == [one.score for one in own]
        for one, two in zip(own, other, strict=True):
            np.testing.assert_array_equal(one.tokens, two.tokens)
            np.testing.assert_allclose(one.score, two.score, rtol=1e-5)
    lines = [*folders.LINES, ""]
    several = translator.alternatives(lines, 2)
    assert [own[0].text for own in several] == translator(lines)
    assert several[-1] == [Alternative("", 0.0)]


def test_a_beam_is_not_wider_than_the_vocabulary() -> None:
    assert [checked_beam(size, 320) for size in (1, 320)] == [1, 320]
    for size in (0, -1, 321):
        with pytest.raises(UserError, match=rf"--beam_size={size} must be between 1 and .* 320"):
            checked_beam(size, 320)
