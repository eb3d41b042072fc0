"""Scores and the paired bootstrap."""

import re

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from automoe_jax.inference import scores
from automoe_jax.inference.scores import (
    _resampled,
    accuracy,
    paired_accuracy,
    paired_bootstrap,
    paired_chrf,
    score,
    tokenization,
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
        _resampled(GOOD, REFERENCES, once, "13a"), score(GOOD, REFERENCES).bleu, rtol=1e-6
    )
    half = BLEU().corpus_score(GOOD[::2] * 2, [REFERENCES[::2] * 2]).score
    np.testing.assert_allclose(_resampled(GOOD, REFERENCES, twice, "13a"), half, rtol=1e-6)


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


CHINESE = [
    "今天不去那家房子。",
    "他常常在河边看树和鸟。",
    "我的朋友爱这只猫,不爱狗。",
    "老人卖了两把椅子和一盏灯。",
    "她每天早上都去学校上课。",
] * 4
JAPANESE = ["猫が木の上で眠っています。", "今日はとても良い天気ですね。"] * 3
THAI = ["แมวนอนอยู่บนต้นไม้ใหญ่", "วันนี้อากาศดีมาก"] * 3


@pytest.mark.parametrize("language", ["zh", "zh-TW", "ZH_cn", "cmn", "zho"])
def test_chinese_is_tokenized_as_chinese(language: str) -> None:
    wrong = [f"{line[:-2]}好。" for line in CHINESE]
    found = score(wrong, CHINESE, language)
    assert found.bleu == BLEU(trg_lang="zh").corpus_score(wrong, [CHINESE]).score
    assert 60 < found.bleu < 95
    assert "tok:zh" in found.bleu_signature
    assert (found.note, found.tokenizer_note) == ("", "")


@pytest.mark.parametrize("language", ["", "de", "en"])
def test_the_script_decides_where_the_language_does_not_fit(language: str) -> None:
    found = score(CHINESE, CHINESE, language)
    assert found.bleu == pytest.approx(100)
    assert "tok:zh" in found.bleu_signature
    assert f"config.data.target_language={language!r}" in found.tokenizer_note
    assert tokenization(language, THAI).name == "char"
    assert tokenization(language, REFERENCES) == ("13a", "")
    assert tokenization(language, ["BLEU 今天 and more words of English"]) == ("13a", "")


@pytest.mark.parametrize(
    ("language", "package", "lines"),
    [("ja", "ja", JAPANESE), ("jpn", "ja", JAPANESE), ("ko", "ko", ["오늘은 날씨가 좋다"] * 4)],
)
def test_a_missing_tokenizer_is_replaced_and_named(
    language: str, package: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "_available", lambda name: False)
    found = score(lines, lines, language)
    assert found.bleu == pytest.approx(100)
    assert "tok:char" in found.bleu_signature
    assert f'pip install "sacrebleu[{package}]"' in found.tokenizer_note
    monkeypatch.setattr(scores, "_available", lambda name: True)
    assert tokenization(language, lines) == (f"{package}-mecab", "")


def test_japanese_by_its_script_is_not_taken_for_chinese(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "_available", lambda name: True)
    assert tokenization("de", JAPANESE).name == "ja-mecab"
    assert tokenization("de", CHINESE).name == "zh"


def test_the_bootstrap_tokenizes_like_the_score() -> None:
    wrong = [f"{line[:-2]}好。" for line in CHINESE]
    found = paired_bootstrap(wrong, {"right": CHINESE}, CHINESE, "zh")["right"]
    gap = score(CHINESE, CHINESE, "zh").bleu - score(wrong, CHINESE, "zh").bleu
    assert found.mean == pytest.approx(gap)
    assert 0 < found.low <= gap <= found.high
    assert found.low > gap / 2
    assert found.p_value < 0.01


@pytest.mark.parametrize(
    ("translations", "references", "note"),
    [
        (["yes", "no no"], ["yes", "no no"], "BLEU means nothing here: .* no translation has more"),
        (["", " "], ["one two", "three"], "all translations are empty"),
        (
            ["", "one two three four five"],
            ["one", "one two three four five"],
            "1 of 2 translations are empty",
        ),
        (["one two three four x"], ["one two three y z"], "BLEU is smoothing alone"),
    ],
)
def test_what_makes_bleu_mean_nothing_is_said(
    translations: list[str], references: list[str], note: str
) -> None:
    assert re.search(note, score(translations, references, "en").note)


def test_no_note_where_bleu_means_something() -> None:
    assert score(GOOD, REFERENCES, "en").note == ""


def test_paired_chrf_of_equal_and_of_better_translations() -> None:
    references = [f"the {animal} sees the house" for animal in ("dog", "cat", "horse", "bird")]
    worse = [line.replace("house", "hose") for line in references]
    assert paired_chrf(references, references, references) == (0, 0, 0, 1)
    found = paired_chrf(worse, references, references, samples=100)
    assert 0 < found.low <= found.mean <= found.high
    assert found.mean == pytest.approx(
        score(references, references).chrf - score(worse, references).chrf
    )
    assert found.p_value == 0
