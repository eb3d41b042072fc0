"""BLEU and chrF by sacreBLEU (Post, 2018) with their signatures; accuracy of classes.

BLEU compares words, so its tokenizer depends on the target language: sacreBLEU's own for Chinese,
Japanese and Korean, single characters for other languages written without blanks, mteval's 13a for
the rest.
"""

import collections
import functools
import itertools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest
from scipy.special import bdtr

# sacreBLEU's own tokenizers, by the first part of a language's code (ISO 639-1 or 639-3).
_TOKENIZERS = {
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "yue"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    # Thai, Lao, Khmer, Burmese, Tibetan and Dzongkha, which sacreBLEU has no words of
    **dict.fromkeys(
        ("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod", "dz"), "char"
    ),
}
_DEFAULT_TOKENIZER = "13a"
# Packages of the tokenizers that sacreBLEU installs as extras, and the tokenizer without them.
_PACKAGES = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}
_REPLACEMENT = "char"
# Scripts without blanks between words, by the first word of their characters' Unicode names.
_LANGUAGES = {
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "THAI": "th",
    "LAO": "lo",
    "KHMER": "km",
    "MYANMAR": "my",
    "TIBETAN": "bo",
}
_MOST_CHARACTERS = 100_000  # read to find the script of a text
# Of the letters in a Japanese text, at least this share is kana.
_KANA_SHARE = 0.1
_LARGEST_EMPTY_SHARE = 0.05


class Scores(NamedTuple):
    """Corpus scores, 0 to 100, and sacreBLEU's signatures."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str
    note: str = ""  # what limits the meaning of BLEU for these texts
    tokenizer_note: str = ""  # why BLEU's tokenizer is not that of the configured language


class Accuracy(NamedTuple):
    """Scores of classification, 0 to 100."""

    accuracy: float
    macro_f1: float  # the mean F1 of the classes that occur in the references


class Difference(NamedTuple):
    """BLEU, chrF or accuracy of a system minus that of the baseline on the same text."""

    mean: float
    low: float  # of the 95 % interval over resampled texts
    high: float
    # of a difference by chance: by sacreBLEU's paired bootstrap, or McNemar's exact test for
    # accuracy
    p_value: float


class Tokenization(NamedTuple):
    """One of sacreBLEU's tokenizers."""

    name: str
    note: str = ""  # why it is not the one of the configured language


def tokenization(language: str, references: Sequence[str]) -> Tokenization:
    """The tokenizer for references in a language, such as "de", "zh" or "zh-TW".

    If the references are mostly in a script without blanks, and the language is none that is
    written so, their script decides. A tokenizer whose package is not installed is replaced by
    single characters.
    """
    name, note = _of_language(language), ""
    if name == _DEFAULT_TOKENIZER and (written := _language_of_script(references)):
        name = _of_language(written)
        note = (
            f"BLEU is tokenized for {written!r}, as the script of the references asks, and not for"
            f" config.data.target_language={language!r}"
        )
    if name in _PACKAGES and not _available(name):
        missing = (
            f"BLEU compares single characters, as sacreBLEU's tokenizer {name} is not installed:"
            f' pip install "{_PACKAGES[name]}"'
        )
        return Tokenization(_REPLACEMENT, "; ".join(filter(None, [note, missing])))
    return Tokenization(name, note)


def score(translations: Sequence[str], references: Sequence[str], language: str = "") -> Scores:
    """Scores of detokenised text in `language` against one reference each."""
    tokenizer = tokenization(language, references)
    bleu, chrf = BLEU(tokenize=tokenizer.name), CHRF()
    bleu_score: Any = bleu.corpus_score(translations, [references])
    chrf_score = chrf.corpus_score(translations, [references])
    return Scores(
        bleu_score.score,
        chrf_score.score,
        str(bleu.get_signature()),
        str(chrf.get_signature()),
        _meaning(translations, bleu_score),
        tokenizer.note,
    )


def _meaning(translations: Sequence[str], bleu: Any) -> str:
    """The reason why a BLEU score means little, or nothing."""
    empty = sum(not line.strip() for line in translations)
    if empty == len(translations):
        return "all translations are empty, so BLEU is 0"
    notes = []
    if empty > _LARGEST_EMPTY_SHARE * len(translations):
        notes.append(f"{empty} of {len(translations)} translations are empty")
    longest = sum(total > 0 for total in bleu.totals)
    if longest < len(bleu.totals):
        notes.append(
            f"BLEU means nothing here: it is 0 without sequences of {len(bleu.totals)} words, and"
            f" no translation has more than {longest}; read chrF"
        )
    elif bleu.score and not bleu.counts[-1]:
        notes.append(
            f"no sequence of {len(bleu.counts)} words is right, so BLEU is smoothing alone; read"
            " chrF"
        )
    return "; ".join(notes)


def _of_language(language: str) -> str:
    code = language.replace("_", "-").partition("-")[0].lower()
    return _TOKENIZERS.get(code, _DEFAULT_TOKENIZER)


def _language_of_script(lines: Iterable[str]) -> str:
    """The language that a script without blanks suggests, or nothing where most letters are of
    others.
    """
    text = "".join(itertools.islice(itertools.chain.from_iterable(lines), _MOST_CHARACTERS))
    scripts = collections.Counter(
        unicodedata.name(character, "").partition(" ")[0].partition("-")[0]
        for character in text
        if character.isalpha()
    )
    letters = scripts.total()
    suggested: collections.Counter[str] = collections.Counter()
    for script, language in _LANGUAGES.items():
        suggested[language] += scripts[script]
    if 2 * suggested.total() <= letters:
        return ""
    if suggested["ja"] > _KANA_SHARE * letters:
        return "ja"
    return suggested.most_common(1)[0][0]


@functools.cache
def _available(name: str) -> bool:
    """Whether the packages of a tokenizer are installed."""
    try:
        BLEU(tokenize=name)
    except (RuntimeError, ImportError):
        return False
    return True


def accuracy(answers: Sequence[str], references: Sequence[str]) -> Accuracy:
    """Scores of a class for each text against the true one."""
    given, true = np.array(answers), np.array(references)
    right = given == true
    f1 = [
        2 * np.sum(right & (true == name)) / (np.sum(given == name) + np.sum(true == name))
        for name in np.unique(true)
    ]
    return Accuracy(float(100 * right.mean()), float(100 * np.mean(f1)))


def paired_accuracy(
    baseline: Sequence[str],
    answers: Sequence[str],
    references: Sequence[str],
    *,
    samples: int = 1000,
    seed: int = 12345,
) -> Difference:
    """Accuracy against the baseline's, with the interval over `samples` texts drawn with
    repeats.
    """
    true = np.array(references)
    ours, theirs = np.array(answers) == true, np.array(baseline) == true
    gain = 100 * (ours.astype(float) - theirs)
    drawn = np.random.default_rng(seed).multinomial(
        len(gain), np.full(len(gain), 1 / len(gain)), size=samples
    )
    low, high = np.percentile(drawn @ gain / len(gain), [2.5, 97.5])
    better, worse = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
    # McNemar's exact test: of the texts that only one classifies correctly, each expects half.
    p_value = min(1.0, 2 * bdtr(min(better, worse), better + worse, 0.5))
    return Difference(float(gain.mean()), float(low), float(high), float(p_value))


def paired_bootstrap(
    baseline: Sequence[str],
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    language: str = "",
    *,
    samples: int = 1000,
    seed: int = 12345,
) -> dict[str, Difference]:
    """Each system's BLEU against the baseline's, with the interval over `samples` texts drawn from
    the sentences with repeats (Koehn, 2004); tokenized as in `score`.
    """
    if not systems:
        return {}
    tokenizer = tokenization(language, references).name
    named: list[tuple[str, Sequence[str]]] = [
        ("baseline", list(baseline)),
        *((name, list(lines)) for name, lines in systems.items()),
    ]
    results: Any = PairedTest(
        named,
        {"BLEU": BLEU(tokenize=tokenizer)},
        [list(references)],
        test_type="bs",
        n_samples=samples,
    )()[1]["BLEU"]
    drawn = np.random.default_rng(seed).multinomial(
        len(references), np.full(len(references), 1 / len(references)), size=samples
    )
    scores = {name: _resampled(lines, references, drawn, tokenizer) for name, lines in named}
    differences = {}
    for result, (name, _) in zip(results, named, strict=True):
        if name != "baseline":
            sampled = scores[name] - scores["baseline"]
            low, high = np.percentile(sampled, [2.5, 97.5])
            differences[name] = Difference(
                result.score - results[0].score, float(low), float(high), float(result.p_value)
            )
    return differences


def _chrf_of(metric: CHRF, counts: np.ndarray) -> np.ndarray:
    """chrF of each text, whose counts are the rows."""
    return np.array([metric._compute_score_from_stats(list(row)).score for row in counts])


def paired_chrf(
    baseline: Sequence[str],
    translations: Sequence[str],
    references: Sequence[str],
    *,
    samples: int = 1000,
    seed: int = 12345,
) -> Difference:
    """chrF against the baseline's, with the interval over `samples` texts drawn from the sentences
    with repeats; the p value is the share of these texts whose difference has the other sign.
    """
    metric = CHRF()
    drawn = np.random.default_rng(seed).multinomial(
        len(references), np.full(len(references), 1 / len(references)), size=samples
    )
    drawn = np.concatenate([np.ones_like(drawn[:1]), drawn])  # the text itself first
    ours, theirs = (
        _chrf_of(
            metric,
            drawn @ np.array(metric._extract_corpus_statistics(list(lines), [list(references)])),
        )
        for lines in (translations, baseline)
    )
    mean, *sampled = ours - theirs
    low, high = np.percentile(sampled, [2.5, 97.5])
    p_value = float(np.mean(np.sign(sampled) != np.sign(mean))) if mean else 1.0
    return Difference(float(mean), float(low), float(high), p_value)


def _resampled(
    translations: Sequence[str], references: Sequence[str], drawn: np.ndarray, tokenizer: str
) -> np.ndarray:
    """BLEU [samples] of texts in which sentence i occurs drawn[:, i] times."""
    # for the counts of single sentences; the corpus score is that of `score`
    bleu = BLEU(tokenize=tokenizer, effective_order=True)
    per_sentence: list[Any] = [
        bleu.sentence_score(line, [reference])
        for line, reference in zip(translations, references, strict=True)
    ]
    counts, totals = (
        drawn @ np.array([getattr(one, name) for one in per_sentence])
        for name in ("counts", "totals")
    )
    lengths = drawn @ np.array([(one.sys_len, one.ref_len) for one in per_sentence])
    rows = zip(counts.tolist(), totals.tolist(), lengths.tolist(), strict=True)
    return np.array(
        [
            BLEU.compute_bleu(correct, total, sizes[0], sizes[1], "exp").score
            for correct, total, sizes in rows
        ]
    )
