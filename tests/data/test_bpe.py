"""The BPE of published models. The segmentations in `SEGMENTED` are those of subword-nmt 0.3.8."""

import pathlib
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automoe_jax.data.bpe import Bpe, Codes, Words, from_bytes, parse_codes, parse_dictionary
from automoe_jax.data.tokenizer import EOS, PAD, UNK, SeparateTokenizers, Tokenizer
from automoe_jax.errors import UserError

CODES = "#version: 0.2\nt h\nth e</w>\ne r</w>\na n\ni n\nin g</w>\no o\na a\n"
SEGMENTED = {
    "the": "the",
    "other": "o@@ th@@ er",
    "banana": "b@@ an@@ an@@ a",
    "thing": "th@@ ing",
    "oooo": "oo@@ o@@ o",
    "aaaaa": "aa@@ aa@@ a",
    "ä": "ä",
    "er": "er",
    "erer": "e@@ r@@ er",
}
PIECES = ("the", "th@@", "er", "o@@", "an@@", "a", "b@@", "ing", ".", "madeupword0000")


def bpe(**options: object) -> Bpe:
    return Bpe(PIECES, parse_codes(CODES, "codes"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("word", "pieces"), SEGMENTED.items())
def test_words_are_segmented_like_subword_nmt(word: str, pieces: str) -> None:
    assert " ".join(bpe()._pieces_of(word)) == pieces


def test_version_without_a_header_has_a_symbol_for_the_end() -> None:
    codes = parse_codes("t h\nth e\nthe </w>\ni n\nn </w>\n", "codes")
    assert codes.separate_end
    old = Bpe((), codes)
    assert old._pieces_of("thethe") == ["the@@", "the"]
    assert old._pieces_of("in") == ["in"]


def test_codes_of_fastbpe_have_counts() -> None:
    counted = parse_codes("t h 3000\nth e</w> 2000\n", "codes")
    assert counted == parse_codes("#version: 0.2\nt h\nth e</w>\n", "codes")


def test_ids_are_those_of_the_dictionary(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model").write_bytes(bpe().to_bytes())
    tokenizer = Tokenizer(tmp_path / "model")
    assert (tokenizer.vocab_size, tokenizer.unused) == (14, 1)
    (ids,) = tokenizer.encode(["the  other banana x ."])
    assert ids.dtype == np.int32
    assert ids.tolist() == [4, 7, 5, 6, 10, 8, 8, 9, UNK, 12]
    assert tokenizer.decode([*ids, EOS, 4]) == "the other banana ."
    assert tokenizer.decode([PAD, 7, 5]) == "oth"  # cut within a word
    pieces = ["▁the", "▁o", "th", "er", "▁b", "an", "an", "a", "▁<unk>", "▁."]
    assert tokenizer.pieces(ids) == pieces
    assert tokenizer.target_byte_pieces() == []
    both = SeparateTokenizers(tokenizer, tokenizer)
    assert both.encode_target(["the"])[0].tolist() == [4]
    assert both.decode(both.encode(["the banana"])[0]) == "the banana"


@given(st.lists(st.text("theranbo", min_size=1, max_size=9)))
def test_pieces_spell_their_words(words: list[str]) -> None:
    pieces = [piece for word in words for piece in bpe()._pieces_of(word)]
    assert f"{' '.join(pieces)} ".replace("@@ ", "").split() == words


def test_a_file_holds_everything() -> None:
    words = Words(moses=True, dashes=True, lowercase=True)
    one = bpe(words=words, languages=("en", "de"))
    assert from_bytes(one.to_bytes()) == one
    plain = Bpe(PIECES, codes=None)
    assert from_bytes(plain.to_bytes()) == plain
    assert plain.encode(["the th@@ banana"], target=False) == [[4, 5, UNK]]  # words are pieces
    with pytest.raises(ValueError, match="not a tokenizer of the format"):
        from_bytes(b'{"format": "other"}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the 5\nalone\n", "d, line 2: 'alone' is not a symbol and its count"),
        ("the x\n", "d, line 1: 'the x' is not a symbol"),
        ("the\u00a05\n", "d, line 1"),
    ],
)
def test_a_broken_dictionary(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_dictionary(text, "d")


def test_symbols_may_be_separators_of_lines() -> None:
    assert parse_dictionary("\u2028 7\n\x85@@ 6\r\n", "d") == ("\u2028", "\x85@@")


def test_broken_codes() -> None:
    with pytest.raises(UserError, match="c, line 3: 'one' is not a pair of pieces"):
        parse_codes("#version: 0.2\na b\none\n", "c")


def test_words_of_moses() -> None:
    pytest.importorskip("sacremoses", reason="the extra convert is not installed")
    symbols = ("it", "&apos;s", "high", "@-@", "speed", "rail", ".")
    moses = Words(moses=True, dashes=True)
    codes = Codes(tuple(merge for word in symbols for merge in _merges_of(word)), False)
    one = Bpe(symbols, codes, moses)
    (ids,) = one.encode(["it's high-speed rail."], target=False)
    assert [one.piece(i) for i in ids] == ["it", "&apos;s", "high", "@-@", "speed", "rail", "."]
    assert one.decode(ids) == "it's high-speed rail."
    lower = Bpe(symbols, codes, Words(moses=True, lowercase=True))
    assert lower.encode(["IT"], target=False) == [[4]]


def _merges_of(word: str) -> list[tuple[str, str]]:
    """Merges that join the characters of a word from the left."""
    parts = [*word[:-1], f"{word[-1]}</w>"]
    return [("".join(parts[: i + 1]), parts[i + 1]) for i in range(len(parts) - 1)]


def test_without_sacremoses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(UserError, match=r"pip install 'automoe_jax\[convert\]'"):
        bpe(words=Words(moses=True), languages=("xx", "xx")).encode(["a"], target=False)
