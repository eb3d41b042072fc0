"""Several translations of each line with their scores, for every engine; imports no JAX."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from automoe_jax.errors import UserError
from automoe_jax.inference.engine.hypotheses import Hypothesis
from automoe_jax.inference.explanations import NOTHING, Explanation
from automoe_jax.inference.lines import Pieces, parts_of

# (token ids of sources, N) → at most N hypotheses of each, best first
Hypotheses = Callable[[list[np.ndarray], int], list[list[Hypothesis]]]

# (parts of a source, parts of a translation)
Explain = Callable[[Sequence[np.ndarray], Sequence[Hypothesis]], Explanation]


class Alternative(NamedTuple):
    """A translation of a line."""

    text: str
    # Σ log p / length^α of the hypothesis; of a line in parts, the sum over them
    score: float
    explanation: Explanation | None = None


def alternatives(
    hypotheses: Hypotheses,
    tokenizer: Pieces,
    lines: Sequence[str],
    *,
    longest: int,
    best: int,
    explain: Explain | None = None,
) -> list[list[Alternative]]:
    """At most `best` translations of each line of text, best first; an empty one of a line without
    text. `explain` explains each of them.

    Of a line of more than `longest` tokens, the i-th translation joins the i-th of each part.
    """
    sources, owner = parts_of(tokenizer, lines, longest)
    parts: list[list[list[Hypothesis]]] = [[] for _ in lines]
    read: list[list[np.ndarray]] = [[] for _ in lines]
    for i, source, translations in zip(owner, sources, hypotheses(sources, best), strict=True):
        parts[i].append(translations)
        read[i].append(source)

    def joined(source: Sequence[np.ndarray], translation: Sequence[Hypothesis]) -> Alternative:
        texts = [tokenizer.decode(part.tokens) for part in translation]
        return Alternative(
            " ".join(filter(None, texts)),
            sum(part.score for part in translation),
            explain(source, translation) if explain else None,
        )

    empty = Alternative("", 0.0, NOTHING if explain else None)
    return [
        [joined(source, ranked) for ranked in zip(*own, strict=False)] if own else [empty]
        for source, own in zip(read, parts, strict=True)
    ]


def checked_beam(beam_size: int, pieces: int) -> int:
    """`--beam_size`; raises `UserError` for more hypotheses than the target has pieces, which is
    the most that the first step can choose among.
    """
    if not 1 <= beam_size <= pieces:
        raise UserError(
            f"--beam_size={beam_size} must be between 1 and the number of the target's pieces,"
            f" {pieces}"
        )
    return beam_size


def checked_best(best: int, beam_size: int) -> int:
    """`--n_best`; raises `UserError` for more hypotheses than the beam search has."""
    if not 1 <= best <= beam_size:
        raise UserError(
            f"--n_best={best} must be between 1 and the beam size, {beam_size}; a larger"
            " --beam_size finds more translations"
        )
    return best


def as_text(line: int, translations: Sequence[Alternative]) -> list[str]:
    """Moses' format of n-best lists: the number of the line from 0, the translation, the score."""
    return [f"{line} ||| {one.text} ||| {one.score:.4f}" for one in translations]


def as_json(source: str, translations: Sequence[Alternative], experts: bool = False) -> str:
    """One JSON object on one line: the source and its translations, best first, with explanations
    where there are some, and the `experts` of pieces in them.
    """
    described: list[dict[str, Any]] = [
        {"text": one.text, "score": round(float(one.score), 6)}
        | (one.explanation.to_json(experts) if one.explanation else {})
        for one in translations
    ]
    return json.dumps({"source": source, "translations": described}, ensure_ascii=False)
