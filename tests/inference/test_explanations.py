"""Word alignments and experts of translations."""

import json
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from automoe_jax.inference.engine.hypotheses import Decisions, Hypothesis
from automoe_jax.inference.engine.translator import Translator, load
from automoe_jax.inference.explanations import _texts, explained
from tests.inference.engine import folders

PIECES = ["▁the", "▁d", "og", "▁das", "▁Hun", "d"]


class Vocabulary:
    """A tokenizer of a few pieces."""

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        return [PIECES[token] for token in tokens]

    target_pieces = pieces


def decisions(attention: list[list[float]], experts: list[list[int]]) -> Decisions:
    """Of two layers with one and two experts; the source's EOS has the last column."""
    gates = np.array([[1.0, float(0 in own), float(1 in own)] for own in experts])
    source = np.tile([[0.0, 0.5, 1.0]], (len(attention[0]), 1))
    return Decisions(np.array(attention), gates, source)


def test_words_are_aligned() -> None:
    """the d|og → das Hun|d, and a second part that continues the word: og → d."""
    first = decisions(
        [[0.5, 0.1, 0.1, 0.3], [0.4, 0.3, 0.1, 0.2], [0.2, 0.0, 0.7, 0.1]], [[0], [1], [0, 1]]
    )
    second = decisions([[0.1, 0.9]], [[1]])
    found = explained(
        Vocabulary(),
        [np.array([0, 1, 2]), np.array([2])],
        [Hypothesis(np.array([3, 4, 5]), 0.0, first), Hypothesis(np.array([5]), 0.0, second)],
        [2, 1],
        [1, 2],
    )
    assert found.source_words == ["the", "dogog"]
    assert found.target_words == ["das", "Hund", "d"]
    assert found.alignment == [(0, 0), (1, 1), (1, 2)]
    assert found.target_experts == [[[0], [0]], [[0], [1]], [[0], [0, 1]], [[0], [1]]]
    assert found.source_experts == [[[1], [0]]] * 4


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Translator:
    return load(folders.write(tmp_path_factory.mktemp("export") / "model"))


def test_words_are_text_where_pieces_are_bytes() -> None:
    pieces = ["▁caf", "<0xC3>", "<0xA9>", "▁<", "0x41>", "<0xC3>"]
    assert _texts(pieces, np.array([0, 0, 0, 1, 1, 2])) == ["café", "<0x41>", "\ufffd"]


def test_decisions_are_those_of_the_sentence_alone(translator: Translator) -> None:
    """Batches, rounds and beams do not mix them up, and they change no translation."""
    sources = translator.tokenizer.encode([*folders.LINES, "a dog", "the bird sees"])
    together = translator.hypotheses(sources, best=3, explain=True)
    plain = translator.hypotheses(sources, best=3)
    for source, own, unexplained in zip(sources, together, plain, strict=True):
        (alone,) = translator.hypotheses([source], best=3, explain=True)
        for one, other, same in zip(own, alone, unexplained, strict=True):
            np.testing.assert_array_equal(one.tokens, same.tokens)
            assert same.decisions is None
            assert one.decisions is not None
            assert other.decisions is not None
            attention, gates, source_gates = one.decisions
            assert len(attention) == len(gates) == len(one.tokens)
            size = len(source) + 1
            np.testing.assert_allclose(attention[:, :size].sum(axis=1), 1, rtol=1e-5)
            np.testing.assert_allclose(attention[:, :size], other.decisions.attention, atol=1e-5)
            np.testing.assert_allclose(gates, other.decisions.gates, atol=1e-5)
            np.testing.assert_allclose(source_gates[:size], other.decisions.source_gates, atol=1e-5)


def test_each_token_has_the_experts_of_its_router(translator: Translator) -> None:
    arch, _ = folders.network()
    ((found, *_),) = translator.alternatives([folders.LINES[0]], 1, explain=True)
    explanation = found.explanation
    assert explanation is not None
    for side in ("source", "target"):
        layers = arch.encoder_experts if side == "source" else arch.decoder_experts
        top_k = arch.encoder_top_k if side == "source" else arch.decoder_top_k
        pieces = getattr(explanation, f"{side}_pieces")
        experts = getattr(explanation, f"{side}_experts")
        assert len(pieces) == len(experts) > 0
        for token in experts:
            assert [len(own) for own in token] == [
                min(count, len(widths)) for count, widths in zip(top_k, layers, strict=False)
            ]
            assert all(max(own) < len(widths) for own, widths in zip(token, layers, strict=True))


def test_json_lines(translator: Translator) -> None:
    flags = ["--json", "--n_best=2", "--experts", f"--model={translator.folder.path}"]
    lines = ["the small dog", "", "ein Vogel"]
    found = subprocess.run(
        [sys.executable, "-m", "automoe_jax.translate", *flags],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        check=True,
    )
    records = [json.loads(line) for line in found.stdout.splitlines()]
    assert [record["source"] for record in records] == lines
    for line, record in zip(lines, records, strict=True):
        assert set(record) == {"source", "translations"}
        for one in record["translations"]:
            assert set(one) == {
                *("text", "score", "source_words", "target_words", "alignment"),
                *("source_pieces", "source_experts", "target_pieces", "target_experts"),
            }
            assert one["source_words"] == line.split()
            assert all(
                source < len(one["source_words"]) and target < len(one["target_words"])
                for source, target in one["alignment"]
            )
    assert len(records[0]["translations"]) == 2
    assert [one["text"] for one in records[1]["translations"]] == [""]


def test_experts_need_json() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "automoe_jax.translate", "--experts", "--model=x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr.strip().endswith("--experts is for --json; add it")
