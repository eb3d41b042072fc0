"""Word translations of toy text whose translations are known."""

import numpy as np

from automoe_jax.data import lexicon
from automoe_jax.data.batching import TokenPairs
from automoe_jax.data.lexicon import ITERATIONS, frequent_targets, word_translations

FIRST, WORDS = 4, 12  # source pieces 4 to 15; each translates to its number + 12
ARTICLE = 28  # a target piece without a counterpart in the source, in every pair
VOCAB = 32


def flat(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return np.concatenate(rows).astype(np.int32), offsets.astype(np.int64)


def text(pairs: int) -> TokenPairs:
    rng = np.random.default_rng(0)
    sources = [rng.choice(WORDS, rng.integers(1, 6), replace=False) + FIRST for _ in range(pairs)]
    targets = [np.append(rng.permutation(source + WORDS), ARTICLE) for source in sources]
    return TokenPairs(*flat(sources), *flat(targets))


def naive(tokens: TokenPairs) -> dict[int, dict[int, float]]:
    """IBM model 1 cell by cell: p(target | source)."""
    table: dict[int, dict[int, float]] = {}
    for step in range(ITERATIONS + 1):
        counts: dict[int, dict[int, float]] = {}
        for source, target in (tokens[i] for i in range(len(tokens))):
            words = [lexicon._NULL, *source.tolist()]
            for word in target.tolist():
                weights = [table[s][word] if step else 1.0 for s in words]
                for s, weight in zip(words, weights, strict=True):
                    row = counts.setdefault(s, {})
                    row[word] = row.get(word, 0.0) + weight / sum(weights)
        if step < ITERATIONS:
            table = {
                s: {t: c / sum(row.values()) for t, c in row.items()} for s, row in counts.items()
            }
    return table


def test_translations_are_found() -> None:
    calls: list[None] = []
    found = word_translations(text(300), VOCAB, VOCAB, 3, lambda: calls.append(None))
    words = np.arange(FIRST, FIRST + WORDS)
    np.testing.assert_array_equal(found[words, 0], words + WORDS)
    assert found[lexicon._NULL, 0] == ARTICLE
    assert (found[FIRST + WORDS :] == -1).all()  # pieces that the source text lacks
    assert len(calls) == ITERATIONS


def test_equals_the_loop_over_cells() -> None:
    tokens = text(20)
    found = word_translations(tokens, VOCAB, VOCAB, VOCAB)
    for piece, row in naive(tokens).items():
        count = len(row)
        listed = found[piece, :count].tolist()
        assert sorted(listed) == sorted(row)
        assert (found[piece, count:] == -1).all()
        probabilities = [row[target] for target in listed]
        np.testing.assert_array_less(np.diff(probabilities), 1e-5)


def test_long_text_is_sampled_evenly(monkeypatch) -> None:
    tokens = text(1000)
    monkeypatch.setattr(lexicon, "MOST_CELLS", 3000)
    assert len(lexicon._sampled(tokens)) < 500
    found = word_translations(tokens, VOCAB, VOCAB, 1)[FIRST : FIRST + WORDS, 0]
    np.testing.assert_array_equal(found, np.arange(FIRST, FIRST + WORDS) + WORDS)


def test_the_most_frequent_targets() -> None:
    frequent = frequent_targets(text(50), VOCAB, 5)
    assert frequent[0] == ARTICLE
    assert len(frequent) == 5
    assert len(frequent_targets(text(50), VOCAB, VOCAB)) == WORDS + 1
