"""Text from the user's files: contents read, and a message for each mistake."""

import bz2
import dataclasses
import gzip
import lzma

import pytest

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus, text
from automoe_jax.errors import UserError

SOURCE = [
    f"sentence {word}" for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")
]
TARGET = [
    f"Satz {word}" for word in ("eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht")
]


def write(path, content):
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def joined(lines):
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_two_files(tmp_path, ending):
    source = write(tmp_path / f"a.en{ending}", "\ufeff" + joined(SOURCE))
    target = write(tmp_path / f"a.de{ending}", joined(TARGET).replace("\n", "\r\n").rstrip())
    assert text.read_pairs(source, target) == corpus.Pairs(tuple(SOURCE), tuple(TARGET))


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_tsv(tmp_path, name):
    path = write(tmp_path / name, joined(map("\t".join, zip(SOURCE, TARGET, strict=True))))
    assert text.read_pairs(path) == corpus.Pairs(tuple(SOURCE), tuple(TARGET))


def test_only_a_newline_ends_a_line(tmp_path):
    source = write(tmp_path / "a", "one\u2028still one\x0bstill\ntwo\n")
    assert text.read_pairs(source, source).source == ("one still one still", "two")


def test_corpus_is_split_without_duplicates(tmp_path):
    path = write(
        tmp_path / "a.tsv",
        joined(
            map("\t".join, zip([*SOURCE, "SENTENCE one."], [*TARGET, "Satz eins!"], strict=True))
        ),
    )
    loaded = corpus.load_corpus(
        DataConfig(source="text", path=path, validation_pairs=1, test_pairs=2), tmp_path
    )
    assert [len(part) for part in (loaded.train, loaded.validation, loaded.test)] == [5, 1, 2]
    assert loaded.statistics["preparation"] == {
        "lines read": 9,
        "duplicates removed": 1,
        "near-duplicates of held-out lines removed": 0,
    }


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            "a\nb\n",
            "a\n",
            r"src has 2 lines and .*tgt has 1; line i of one must translate line i of the other",
        ),
        ("a\n\nc\n", "a\nb\nc\n", r"src, line 2 is empty; every line must hold text"),
        ("a\nb\n", "a\n \t \n", r"tgt, line 2 is empty"),
        (
            "a\nb\n",
            b"a\nGr\xfc\xdfe\n",
            r"tgt, line 2 is not UTF-8 \(byte 0xfc at column 3\); convert the file",
        ),
        ("", "a\n", r"src is empty; config.data.path"),
        (
            "a\tb\nc\n",
            None,
            r"src, line 2 has 1 column; each line must hold the source, one TAB and the target",
        ),
        ("a\tb\tc\n", None, r"src, line 1 has 3 columns"),
        ("a\t\n", None, r"src, line 1 has no target"),
        ("a\tb\n\tb\n", None, r"src, line 2 has no source"),
        ("a\tb\n\n", None, r"src, line 2 has 1 column"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path, source, target, message):
    source = write(tmp_path / "src", source)
    target = "" if target is None else write(tmp_path / "tgt", target)
    with pytest.raises(UserError, match=message) as caught:
        text.read_pairs(source, target)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.txt does not exist; config.data.path"):
        text.read_pairs(str(tmp_path / "nowhere.txt"))
    with pytest.raises(UserError, match="is a folder"):
        text.read_pairs(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"plain text", gzip.compress(b"a\tb\n" * 100)[:-12]], ids=["no gzip", "cut short"]
)
def test_broken_gzip(tmp_path, content):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(UserError, match="is not a complete gzip file"):
        text.read_pairs(str(tmp_path / "a.gz"))


def test_byte_order_marks_and_line_ends_of_other_systems(tmp_path):
    source = write(tmp_path / "a", "\ufeffone\r\ntwo\nthree\r\n")
    target = write(tmp_path / "b", "\ufeffeins\r\nzw\u2028ei\n\ufeffdrei")
    expected = corpus.Pairs(("one", "two", "three"), ("eins", "zw ei", "drei"))
    assert text.read_pairs(source, target) == expected
    old_mac = write(tmp_path / "c.tsv", "one\teins\rtwo\tzwei\r")
    assert text.read_pairs(old_mac) == corpus.Pairs(("one", "two"), ("eins", "zwei"))


def test_compressed_files_without_their_ending(tmp_path):
    packed = write(tmp_path / "a.tsv", gzip.compress(b"one\teins\n"))
    assert text.read_pairs(packed) == corpus.Pairs(("one",), ("eins",))
    for module, name in ((lzma, "xz"), (bz2, "bzip2")):
        path = write(tmp_path / "b", module.compress(b"one\teins\n"))
        with pytest.raises(UserError, match=f"b is compressed with {name}; unpack it"):
            text.read_pairs(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named(tmp_path, encoding):
    path = write(tmp_path / "a.tsv", "one thing\tein Ding\n".encode(encoding))
    with pytest.raises(UserError, match=r"a.tsv, line 1 is not UTF-8 \(.*as in UTF-16\)"):
        text.read_pairs(path)


def test_a_path_below_a_file(tmp_path):
    write(tmp_path / "a", "one\n")
    with pytest.raises(UserError, match="cannot be read"):
        text.read_pairs(str(tmp_path / "a" / "b"))


@pytest.mark.parametrize("path", ["~nobody-of-this-name/a", "a\0b"])
def test_what_is_no_path(path):
    with pytest.raises(UserError, match="is no path"):
        text.read_pairs(path)


@pytest.mark.parametrize("blank", ["", "   ", "\u00a0", "\u200b", "\ufeff", "\r"])
def test_blank_lines_are_an_error_or_are_skipped_and_counted(tmp_path, blank):
    source = write(tmp_path / "a", joined([*SOURCE[:3], blank, *SOURCE[3:], "last"]))
    target = write(tmp_path / "b", joined([*TARGET[:3], "Satz", *TARGET[3:], blank]))
    config = DataConfig(
        source="text", path=source, target_path=target, validation_pairs=1, test_pairs=1
    )
    with pytest.raises(UserError, match=r"line 4 is empty; .* set config.data.skip_blank=True"):
        text.load(config, tmp_path)
    loaded = text.load(dataclasses.replace(config, skip_blank=True), tmp_path)
    assert loaded.statistics["preparation"]["lines read"] == 10
    assert loaded.statistics["preparation"]["pairs with a blank side removed"] == 2
    assert len(loaded.train) + len(loaded.validation) + len(loaded.test) == 8


@pytest.mark.parametrize("blank", ["", " ", "\t", "one\t", "\tein", "\u00a0\t\u200b"])
def test_blank_lines_and_columns_of_a_tsv(tmp_path, blank):
    rows = ["\t".join(row) for row in zip(SOURCE, TARGET, strict=True)]
    path = write(tmp_path / "a.tsv", joined([*rows[:3], blank, *rows[3:]]))
    config = DataConfig(source="text", path=path, validation_pairs=1, test_pairs=1)
    with pytest.raises(UserError, match=r"line 4 .* set config.data.skip_blank=True"):
        text.load(config, tmp_path)
    loaded = text.load(dataclasses.replace(config, skip_blank=True), tmp_path)
    assert loaded.statistics["preparation"]["pairs with a blank side removed"] == 1


def test_skipping_blank_lines_does_not_hide_other_mistakes(tmp_path):
    path = write(tmp_path / "a.tsv", "one\teins\n\nonly one column\n")
    config = DataConfig(source="text", path=path, skip_blank=True)
    with pytest.raises(UserError, match="line 3 has 1 column"):
        text.load(config, tmp_path)


def test_equal_pairs_only(tmp_path):
    path = write(tmp_path / "a.tsv", "one\teins\n" * 40)
    config = DataConfig(source="text", path=path, validation_pairs=1, test_pairs=1)
    with pytest.raises(
        UserError, match=r"has 1 usable pair \(39 duplicates were removed\), too few"
    ):
        text.load(config, tmp_path)


def test_different_words_of_hindi_are_not_duplicates(tmp_path):
    words = [consonant + vowel for consonant in "कखगन" for vowel in "ीेाोू"]
    sources = [f"she said {letter}" for letter in "abcdefghijklmnopqrst"]
    path = write(tmp_path / "a.tsv", joined(map("\t".join, zip(sources, words, strict=True))))
    config = DataConfig(source="text", path=path, validation_pairs=4, test_pairs=4)
    loaded = text.load(config, tmp_path)
    assert [len(part) for part in (loaded.train, loaded.validation, loaded.test)] == [12, 4, 4]


def test_too_few_pairs(tmp_path):
    path = write(tmp_path / "a.tsv", "a\tb\nc\td\n")
    with pytest.raises(UserError, match=r"a.tsv' has 2 usable pairs, too few to hold out"):
        text.load(DataConfig(source="text", path=path), tmp_path)
