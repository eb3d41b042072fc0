"""Explanations of a translation: word alignments from cross attention, and the experts of tokens.

Axes: S source pieces · T target pieces · G experts of all layers of a side.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from automoe_jax.inference.engine.hypotheses import Hypothesis
from automoe_jax.inference.lines import Pieces

_BYTE = re.compile("<0x([0-9A-F]{2})>")  # a piece of a single byte
_SPACE = "▁"  # in a piece: the space before a word


class Explanation(NamedTuple):
    """Explanation of one translation of a line; words and pieces are numbered from 0."""

    source_pieces: list[str]
    target_pieces: list[str]
    source_words: list[str]
    target_words: list[str]
    # (source word, target word): each target word with the source word that it attends to most
    alignment: list[tuple[int, int]]
    # of each piece, of each layer: the experts that computed it
    source_experts: list[list[list[int]]]
    target_experts: list[list[list[int]]]

    def to_json(self, experts: bool) -> dict[str, Any]:
        """The values of JSON; `experts`: with pieces and their experts."""
        names = ["source_words", "target_words", "alignment"]
        if experts:
            names += ["source_pieces", "source_experts", "target_pieces", "target_experts"]
        return {name: getattr(self, name) for name in names}


NOTHING = Explanation([], [], [], [], [], [], [])  # of a line without text


def explained(
    tokenizer: Pieces,
    sources: Sequence[np.ndarray],
    hypotheses: Sequence[Hypothesis],
    source_layers: Sequence[int],
    target_layers: Sequence[int],
) -> Explanation:
    """Explanation of a translation in parts, with the numbers of experts of the layers; hypotheses
    have decisions.
    """
    recorded = [one.decisions for one in hypotheses if one.decisions is not None]
    source_pieces = [piece for part in sources for piece in tokenizer.pieces(part.tolist())]
    target_pieces = [
        piece for one in hypotheses for piece in tokenizer.target_pieces(one.tokens.tolist())
    ]
    # a part of the source may start within a word, one of the target is joined by a space
    begins = np.cumsum([0, *(len(one.tokens) for one in hypotheses)])[:-1]
    source_words = _words(source_pieces, [0])
    target_words = _words(target_pieces, begins)
    attention = np.zeros((len(target_pieces), len(source_pieces)))
    row = column = 0
    for part, decisions in zip(sources, recorded, strict=True):
        rows, columns = len(decisions.attention), len(part)
        attention[row : row + rows, column : column + columns] = decisions.attention[:, :columns]
        row, column = row + rows, column + columns
    source_gates = [
        one.source_gates[: len(part)] for part, one in zip(sources, recorded, strict=True)
    ]
    return Explanation(
        source_pieces,
        target_pieces,
        _texts(source_pieces, source_words),
        _texts(target_pieces, target_words),
        aligned(attention, source_words, target_words),
        _experts(np.concatenate(source_gates), source_layers),
        _experts(np.concatenate([one.gates for one in recorded]), target_layers),
    )


def aligned(
    attention: np.ndarray,
    source_words: np.ndarray,
    target_words: np.ndarray,
) -> list[tuple[int, int]]:
    """(source word, target word) for each target word, from attention [T, S] and the words of the
    pieces, [S] and [T]: the source word that its pieces attend to most.
    """
    if not attention.size:
        return []
    weights = np.zeros((target_words[-1] + 1, source_words[-1] + 1))
    np.add.at(weights, (target_words[:, None], source_words[None, :]), attention)
    return [(int(source), target) for target, source in enumerate(weights.argmax(axis=1))]


def _words(pieces: Sequence[str], begins: Sequence[int] | np.ndarray) -> np.ndarray:
    """The word of each piece; words begin at spaces and at the pieces `begins`."""
    starts = np.array([piece.startswith(_SPACE) for piece in pieces], bool)
    starts[[place for place in begins if place < len(pieces)]] = True
    return np.cumsum(starts) - 1


def _texts(pieces: Sequence[str], words: np.ndarray) -> list[str]:
    texts = [b""] * (int(words[-1]) + 1 if len(words) else 0)
    for piece, word in zip(pieces, words, strict=True):
        byte = _BYTE.fullmatch(piece)
        spelled = bytes.fromhex(byte[1]) if byte else piece.removeprefix(_SPACE).encode()
        texts[word] += spelled
    return [text.decode(errors="replace") for text in texts]


def _experts(gates: np.ndarray, layers: Sequence[int]) -> list[list[list[int]]]:
    """The experts with a gate above 0 of each token, of each layer; gates [N, G]."""
    ends = np.cumsum(layers)[:-1]
    by_layer = np.split(gates, ends, axis=1)
    return [
        [np.flatnonzero(layer[i] > 0).tolist() for layer in by_layer] for i in range(len(gates))
    ]
