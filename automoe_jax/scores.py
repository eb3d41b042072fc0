"""BLEU and chrF by sacreBLEU, always with the signature that says how they were computed (SPEC 5)."""

from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF


class Scores(NamedTuple):
    """Corpus scores, 0 to 100, and sacreBLEU's signatures."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def score(translations: Sequence[str], references: Sequence[str]) -> Scores:
    """Scores of detokenised text against one reference each."""
    bleu, chrf = BLEU(), CHRF()
    bleu_score, chrf_score = bleu.corpus_score(translations, [references]), chrf.corpus_score(translations, [references])
    return Scores(bleu_score.score, chrf_score.score, str(bleu.get_signature()), str(chrf.get_signature()))
