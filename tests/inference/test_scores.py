"""Scores and the paired bootstrap."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from automoe_jax.inference.scores import (
    _resampled,
    accuracy,
    paired_accuracy,
    paired_bootstrap,
    score,
)

RNG = np.random.default_rng(0)
WORDS = [*"abcdefghijklmnopqrstuvwxyz"]
REFERENCES = [" ".join(RNG.choice(WORDS, size=RNG.integers(6, 14))) for _ in range(300)]


def corrupted(share: float, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        " ".join(rng.choice(WORDS) if rng.random() < share else word for word in line.split())
        for line in REFERENCES
    ]


GOOD, SAME, BAD = corrupted(0.2, 1), corrupted(0.2, 2), corrupted(0.3, 3)


def test_resampling_every_sentence_once_gives_the_corpus_score() -> None:
    once, twice = np.ones((1, 300), int), np.repeat([[2, 0]], 150, axis=0).reshape(1, -1)
    np.testing.assert_allclose(
        _resampled(GOOD, REFERENCES, once), score(GOOD, REFERENCES).bleu, rtol=1e-6
    )
    half = BLEU().corpus_score(GOOD[::2] * 2, [REFERENCES[::2] * 2]).score
    np.testing.assert_allclose(_resampled(GOOD, REFERENCES, twice), half, rtol=1e-6)


def test_difference_is_found_where_there_is_one() -> None:
    found = paired_bootstrap(GOOD, {"bad": BAD, "same": SAME}, REFERENCES)
    gap = score(BAD, REFERENCES).bleu - score(GOOD, REFERENCES).bleu
    np.testing.assert_allclose(found["bad"].mean, gap, rtol=1e-6)
    assert found["bad"].low < gap < found["bad"].high < 0
    assert found["bad"].p_value < 0.01
    assert found["same"].low < 0 < found["same"].high
    assert found["same"].p_value > 0.05


def test_no_systems_no_differences() -> None:
    assert paired_bootstrap(GOOD, {}, REFERENCES) == {}


def test_accuracy_and_the_mean_f1_of_the_classes() -> None:
    found = accuracy(["a", "a", "b", "c"], ["a", "b", "b", "b"])
    assert found.accuracy == 50
    # of "a" and "b"; nothing is a "c"
    assert found.macro_f1 == pytest.approx(100 * (2 / 3 + 0.5) / 2)


def test_paired_accuracy_counts_the_texts_on_which_they_differ() -> None:
    references = ["x"] * 200
    base, better = ["x"] * 100 + ["y"] * 100, ["x"] * 95 + ["y"] * 5 + ["x"] * 20 + ["y"] * 80
    found = paired_accuracy(base, better, references)
    assert found.mean == pytest.approx(7.5)
    assert found.low < 7.5 < found.high
    assert found.low == pytest.approx(
        7.5 - 1.96 * 100 * np.sqrt((25 / 200 - 0.075**2) / 200), abs=0.7
    )
    assert found.p_value == pytest.approx(0.0041, abs=1e-4)  # of 20 against 5
    assert paired_accuracy(base, base, references) == (0, 0, 0, 1)
