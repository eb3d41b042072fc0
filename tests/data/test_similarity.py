"""Similar lines against a comparison of all pairs."""

import random

import pytest

from automoe_jax.data import similarity
from automoe_jax.data.cleaning import duplicate_key

LETTERS = "abcdefghij"


def grams(line):
    key = duplicate_key(line).ljust(4, "\0")
    return {key[i : i + 4] for i in range(len(key) - 3)}


def jaccard(one, other):
    one, other = grams(one), grams(other)
    return len(one & other) / len(one | other)


def changed(line, rng):
    characters = list(line)
    for _ in range(rng.randrange(6)):
        characters[rng.randrange(len(characters))] = rng.choice(LETTERS)
    return "".join(characters)


@pytest.mark.parametrize("least", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("chunk", [7, 1000])
def test_against_all_pairs(monkeypatch, least, chunk):
    monkeypatch.setattr(similarity, "_CHUNK", chunk)
    rng = random.Random(0)
    held = ["".join(rng.choices(LETTERS, k=rng.randrange(1, 40))) for _ in range(30)]
    lines = [changed(rng.choice(held), rng) for _ in range(120)] + ["xyz", "zzzzzzzz"]
    found = similarity.similar(lines, held, least)
    assert 0 < len(found) < len(lines)
    for i, line in enumerate(lines):
        values = [jaccard(line, other) for other in held]
        assert (i in found) == (max(values) >= least - 1e-9)
        if i in found:
            assert values[found[i]] == max(values)


def test_nothing_to_compare():
    assert similarity.similar([], ["abc"], 0.8) == {}
    assert similarity.similar(["unlike"], ["abcdefgh"], 0.8) == {}
    assert similarity.similar(["Version 1.2!"], ["version 34"], 0.8) == {0: 0}
