"""Scores and the paired bootstrap."""

import numpy as np
from sacrebleu.metrics import BLEU

from automoe_jax.scores import _resampled, paired_bootstrap, score

RNG = np.random.default_rng(0)
WORDS = [*"abcdefghijklmnopqrstuvwxyz"]
REFERENCES = [" ".join(RNG.choice(WORDS, size=RNG.integers(6, 14))) for _ in range(300)]


def corrupted(share: float, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS) if rng.random() < share else word for word in line.split()) for line in REFERENCES]


GOOD, SAME, BAD = corrupted(0.2, 1), corrupted(0.2, 2), corrupted(0.3, 3)


def test_resampling_every_sentence_once_gives_the_corpus_score() -> None:
    once, twice = np.ones((1, 300), int), np.repeat([[2, 0]], 150, axis=0).reshape(1, -1)
    np.testing.assert_allclose(_resampled(GOOD, REFERENCES, once), score(GOOD, REFERENCES).bleu, rtol=1e-6)
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
