"""BLEU and chrF by sacreBLEU, always with the signature that says how they were computed (SPEC 5);
accuracy of classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest
from scipy.special import bdtr


class Scores(NamedTuple):
    """Corpus scores, 0 to 100, and sacreBLEU's signatures."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


class Accuracy(NamedTuple):
    """How well texts are classified, 0 to 100."""

    accuracy: float
    macro_f1: float  # the mean F1 of the classes that occur in the references


class Difference(NamedTuple):
    """BLEU or accuracy of a system minus that of the baseline on the same text."""

    mean: float
    low: float  # of the 95 % interval over resampled texts
    high: float
    # that this comes about by chance: by sacreBLEU's paired bootstrap, or McNemar's exact test for
    # accuracy
    p_value: float


def score(translations: Sequence[str], references: Sequence[str]) -> Scores:
    """Scores of detokenised text against one reference each."""
    bleu, chrf = BLEU(), CHRF()
    bleu_score, chrf_score = (
        bleu.corpus_score(translations, [references]),
        chrf.corpus_score(translations, [references]),
    )
    return Scores(
        bleu_score.score, chrf_score.score, str(bleu.get_signature()), str(chrf.get_signature())
    )


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
    # McNemar's exact test: of the texts that only one of them has right, each has half.
    p_value = min(1.0, 2 * bdtr(min(better, worse), better + worse, 0.5))
    return Difference(float(gain.mean()), float(low), float(high), float(p_value))


def paired_bootstrap(
    baseline: Sequence[str],
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    *,
    samples: int = 1000,
    seed: int = 12345,
) -> dict[str, Difference]:
    """Each system's BLEU against the baseline's, with the interval over `samples` texts drawn from
    the sentences with repeats.
    """
    if not systems:
        return {}
    named: list[tuple[str, Sequence[str]]] = [
        ("baseline", list(baseline)),
        *((name, list(lines)) for name, lines in systems.items()),
    ]
    results: Any = PairedTest(
        named, {"BLEU": BLEU()}, [list(references)], test_type="bs", n_samples=samples
    )()[1]["BLEU"]
    drawn = np.random.default_rng(seed).multinomial(
        len(references), np.full(len(references), 1 / len(references)), size=samples
    )
    scores = {name: _resampled(lines, references, drawn) for name, lines in named}
    differences = {}
    for result, (name, _) in zip(results, named, strict=True):
        if name != "baseline":
            spread = scores[name] - scores["baseline"]
            low, high = np.percentile(spread, [2.5, 97.5])
            differences[name] = Difference(
                result.score - results[0].score, float(low), float(high), float(result.p_value)
            )
    return differences


def _resampled(
    translations: Sequence[str], references: Sequence[str], drawn: np.ndarray
) -> np.ndarray:
    """BLEU [samples] of texts in which sentence i comes drawn[:, i] times."""
    # for the counts of single sentences; the corpus score is that of `score`
    bleu = BLEU(effective_order=True)
    found: list[Any] = [
        bleu.sentence_score(line, [reference])
        for line, reference in zip(translations, references, strict=True)
    ]
    counts, totals = (
        drawn @ np.array([getattr(one, name) for one in found]) for name in ("counts", "totals")
    )
    lengths = drawn @ np.array([(one.sys_len, one.ref_len) for one in found])
    rows = zip(counts.tolist(), totals.tolist(), lengths.tolist(), strict=True)
    return np.array(
        [
            BLEU.compute_bleu(correct, total, sizes[0], sizes[1], "exp").score
            for correct, total, sizes in rows
        ]
    )
