"""The joint BPE."""

import pathlib

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from automoe_jax.data.cleaning import clean_line
from automoe_jax.data.tokenizer import (
    BOS,
    EOS,
    PAD,
    SPECIAL_IDS,
    UNK,
    SeparateTokenizers,
    Tokenizer,
    train_tokenizer,
)
from automoe_jax.errors import UserError
from automoe_jax.model.network import EOS_ID, PAD_ID

LINES = [
    "Die Mädchen grüßen den Bäcker an der Tür.",
    "The girls greet the baker at the door.",
    "Über den Flüssen fliegen 17 Vögel.",
    "17 birds fly over the rivers.",
    "Der Küchentisch gehört meiner Schwester, aber die Stühle gehören uns.",
    "The kitchen table belongs to my sister, but the chairs belong to us.",
] * 5


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "deep" / "tokenizer.model"
    assert train_tokenizer(LINES, 340, path) == 340
    assert [child.name for child in path.parent.iterdir()] == ["tokenizer.model"]
    return Tokenizer(path)


def test_special_ids(tokenizer):
    assert (BOS, PAD, EOS, UNK) == (0, 1, 2, 3)
    model = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer.path))
    assert (model.bos_id(), model.pad_id(), model.eos_id(), model.unk_id()) == SPECIAL_IDS
    assert (PAD, EOS) == (PAD_ID, EOS_ID)
    assert tokenizer.vocab_size == 340


@pytest.mark.parametrize(
    "line",
    [*LINES[:6], "Zwölf Äpfel größer als ß", "日本 – emoji 🎉 and <s> </s> <pad> ▁", "", "x"],
)
def test_round_trip(tokenizer, line):
    (ids,) = tokenizer.encode([line])
    assert ids.dtype == np.int32
    assert not set(SPECIAL_IDS) & set(ids.tolist())
    assert tokenizer.decode(ids) == line.replace("▁", "").rstrip()


@given(line=st.text().map(clean_line).filter(lambda line: "▁" not in line and "\0" not in line))
def test_any_clean_line_survives(tokenizer, line):
    assert tokenizer.decode(tokenizer.encode([line])[0]) == line


def test_decomposed_umlauts_are_the_same_tokens(tokenizer):
    composed, decomposed = tokenizer.encode(["Tür", "Tu\u0308r"])
    np.testing.assert_array_equal(composed, decomposed)


def test_decode_stops_at_eos_and_drops_special_ids(tokenizer):
    ids = tokenizer.encode(["the door", "my sister"])
    assert tokenizer.decode([BOS, *ids[0], PAD, UNK, EOS, *ids[1], EOS, PAD]) == "the door"
    assert tokenizer.decode(np.array([EOS, 7], np.int32)) == ""


def test_the_same_lines_give_the_same_file(tokenizer, tmp_path):
    train_tokenizer(iter(LINES), 340, tmp_path / "again.model")
    first, again = Tokenizer(tokenizer.path), Tokenizer(tmp_path / "again.model")
    assert first.encode(LINES[:6])[2].tolist() == again.encode(LINES[:6])[2].tolist()
    assert (tmp_path / "again.model").read_bytes() == tokenizer.path.read_bytes()


def test_a_vocabulary_the_text_cannot_fill_becomes_smaller(tmp_path):
    size = train_tokenizer(LINES, 5000, tmp_path / "model")
    assert 340 < size < 5000
    assert Tokenizer(tmp_path / "model").vocab_size == size


def test_a_vocabulary_too_small_for_the_characters_is_an_error(tmp_path):
    with pytest.raises(
        UserError, match=r"config.data.vocab_size=100 must be at least \d+"
    ) as caught:
        train_tokenizer(LINES, 100, tmp_path / "model")
    assert not list(tmp_path.iterdir())
    least = int(str(caught.value).split("at least ")[1].split()[0])
    train_tokenizer(LINES, least, tmp_path / "model")
    with pytest.raises(UserError):
        train_tokenizer(LINES, least - 1, tmp_path / "model")


@pytest.mark.parametrize("separator", [" ", ""])
def test_long_lines_are_learnt_from(tmp_path, separator):
    """SentencePiece ignores lines of more than 4192 bytes, silently."""
    words = ["Donaudampfschifffahrt", "猫が木の上で眠っている", "kalt"] * 500
    size = train_tokenizer([separator.join(words)], 400, tmp_path / "model")
    assert size > 300
    (ids,) = Tokenizer(tmp_path / "model").encode(["kalt 猫が木の上で"])
    assert len(ids) <= 4


def test_long_lines_give_the_pieces_of_short_ones(tmp_path):
    train_tokenizer(LINES, 340, tmp_path / "short")
    train_tokenizer([" ".join(LINES * 8)], 340, tmp_path / "long")
    short, long = Tokenizer(tmp_path / "short"), Tokenizer(tmp_path / "long")
    assert {short.piece(i) for i in range(340)} == {long.piece(i) for i in range(340)}


def test_lines_with_sentencepieces_own_signs_are_learnt_from(tmp_path):
    train_tokenizer([f"{line} ▅ ▁" for line in LINES], 340, tmp_path / "model")
    tokenizer = Tokenizer(tmp_path / "model")
    assert len(tokenizer.encode(["Mädchen"])[0]) < 6
    assert tokenizer.decode(tokenizer.encode(["a ▅ b"])[0]) == "a ▅ b"


def test_byte_pieces_do_not_break_a_line(tokenizer):
    text = "a\nb\r\nc\x0bd\u2028e\x85f\u2029g\ufeff"
    first = tokenizer.target_byte_pieces()[0]
    assert tokenizer.piece(first) == "<0x00>"
    ids = [first + byte for byte in text.encode()]
    assert tokenizer.decode(ids) == "a b c d e f g"


def test_use_is_cleaned_like_training(tokenizer):
    plain, *others = tokenizer.encode(
        ["the door", "\ufeffthe door", "the\u00a0door\u200f", "the\u200b do\u00ador", "▁the▁door\r"]
    )
    for other in others:
        np.testing.assert_array_equal(other, plain)
    assert [len(ids) for ids in tokenizer.encode(["\u00a0", "\u200b", "▁", "\ufeff"])] == [0] * 4


def test_separate_tokenizers_read_the_source_and_write_the_target(tmp_path):
    for name, lines, size in (("source", LINES[1::2], 320), ("target", LINES[::2], 300)):
        assert train_tokenizer(lines, size, tmp_path / name) == size
    both = SeparateTokenizers(Tokenizer(tmp_path / "source"), Tokenizer(tmp_path / "target"))
    assert (both.vocab_size, both.target_vocab_size) == (320, 300)
    german, english = LINES[:2]
    np.testing.assert_array_equal(both.encode([english])[0], both.source.encode([english])[0])
    ids = both.encode_target([german])[0]
    assert both.decode([*ids, EOS, *ids]) == german
    assert both.source.decode(ids) != german
    assert "".join(both.pieces(both.encode([english])[0])) == "▁" + english.replace(" ", "▁")
    assert "".join(both.target_pieces(ids)) == "▁" + german.replace(" ", "▁")


def test_one_tokenizer_reads_and_writes_both(tokenizer):
    assert tokenizer.target_vocab_size == tokenizer.vocab_size
    np.testing.assert_array_equal(tokenizer.encode_target(LINES)[0], tokenizer.encode(LINES)[0])


def test_unused_pieces_change_neither_the_text_nor_its_pieces(tmp_path: pathlib.Path) -> None:
    lines = ["the big house", "the small house", "<unused 0> is text here"]
    size = train_tokenizer(lines, 1000, tmp_path / "0.model")
    assert train_tokenizer(lines, size + 5, tmp_path / "5.model", unused=5) == size + 5
    plain, rounded = (Tokenizer(tmp_path / f"{unused}.model") for unused in (0, 5))
    assert [plain.vocab_size, rounded.vocab_size] == [size, size + 5]
    assert (plain.unused, rounded.unused) == (0, 5)
    for one, other in zip(plain.encode(lines), rounded.encode(lines), strict=True):
        assert list(map(plain.piece, one)) == list(map(rounded.piece, other))
        assert rounded.decode(other) == plain.decode(one)
    assert rounded.decode(range(4, 9)) == "", "a translation with them is the one without"
