"""Text from the user's files: contents read, and a message for each mistake."""

import dataclasses
import gzip

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


def read_pairs(path, target_path="", **settings):
    config = DataConfig(source="text", path=path, target_path=target_path, **settings)
    found = text.read(config)
    return corpus.Pairs(tuple(found.source), tuple(found.target))


def joined(lines):
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_two_files(tmp_path, ending):
    source = write(tmp_path / f"a.en{ending}", "\ufeff" + joined(SOURCE))
    target = write(tmp_path / f"a.de{ending}", joined(TARGET).replace("\n", "\r\n").rstrip())
    assert read_pairs(source, target) == corpus.Pairs(tuple(SOURCE), tuple(TARGET))


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_tsv(tmp_path, name):
    path = write(tmp_path / name, joined(map("\t".join, zip(SOURCE, TARGET, strict=True))))
    assert read_pairs(path) == corpus.Pairs(tuple(SOURCE), tuple(TARGET))


def test_only_a_newline_ends_a_line(tmp_path):
    content = "one\u2028still one\x0bstill\ntwo\n"
    source, target = (write(tmp_path / name, content) for name in ("a", "b"))
    assert read_pairs(source, target).source == ("one still one still", "two")


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
            r"tgt, line 2 is not UTF-8 \(byte 0xfc at column 3\); it may be .*'Grüße'.*: set"
            r" config.data.target_encoding='\w+' if that is right, or convert the file to UTF-8",
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
        read_pairs(source, target)
    assert "\n" not in str(caught.value)


def test_two_files_are_two_and_have_no_columns(tmp_path):
    source = write(tmp_path / "a.en", joined(SOURCE))
    target = write(tmp_path / "a.de", joined(TARGET))
    with pytest.raises(
        UserError, match=r"target_path both name .*a.en; name the file of the other"
    ):
        read_pairs(source, source)
    with pytest.raises(UserError, match=r"source_column='en' is of a file with columns and .*sec"):
        read_pairs(source, target, source_column="en")
    table = write(tmp_path / "a.tsv", joined(TARGET))
    with pytest.raises(UserError, match=r"a.tsv is read as 'tsv', which has both sides in a file"):
        read_pairs(source, table)
    assert read_pairs(source, table, format="lines").target == tuple(TARGET)


@pytest.mark.parametrize(("name", "between"), [("a.tsv", "\t"), ("a.csv", ",")])
def test_one_column_on_both_sides(tmp_path, name, between):
    path = write(tmp_path / name, f"en{between}de\n" * 3)
    for column in ("en", "2"):
        with pytest.raises(UserError, match=r"source and the target are both .*; name two of them"):
            read_pairs(path, source_column=column, target_column=column)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.txt does not exist; config.data.path"):
        read_pairs(str(tmp_path / "nowhere.txt"))
    with pytest.raises(UserError, match="is a folder"):
        read_pairs(str(tmp_path))


def test_byte_order_marks_and_line_ends_of_other_systems(tmp_path):
    source = write(tmp_path / "a", "\ufeffone\r\ntwo\nthree\r\n")
    target = write(tmp_path / "b", "\ufeffeins\r\nzw\u2028ei\n\ufeffdrei")
    expected = corpus.Pairs(("one", "two", "three"), ("eins", "zw ei", "drei"))
    assert read_pairs(source, target) == expected
    old_mac = write(tmp_path / "c.tsv", "one\teins\rtwo\tzwei\r")
    assert read_pairs(old_mac) == corpus.Pairs(("one", "two"), ("eins", "zwei"))


def test_a_path_below_a_file(tmp_path):
    write(tmp_path / "a", "one\n")
    with pytest.raises(UserError, match="cannot be read"):
        read_pairs(str(tmp_path / "a" / "b"))


@pytest.mark.parametrize("path", ["~nobody-of-this-name/a", "a\0b"])
def test_what_is_no_path(path):
    with pytest.raises(UserError, match="is no path"):
        read_pairs(path)


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


def test_several_files_by_patterns_and_names(tmp_path):
    for name, rows in (("a", (0, 1)), ("b", (2, 3)), ("c,d", (4,))):
        write(tmp_path / f"{name}.en", joined(SOURCE[i] for i in rows))
        write(tmp_path / f"{name}.de", joined(TARGET[i] for i in rows))
    found = read_pairs(str(tmp_path / "*.en"), str(tmp_path / "*.de"))
    assert found == corpus.Pairs(tuple(SOURCE[:5]), tuple(TARGET[:5]))
    found = read_pairs(str(tmp_path / "c,d.en"), str(tmp_path / "c,d.de"))
    assert found == corpus.Pairs((SOURCE[4],), (TARGET[4],))
    both = [", ".join(str(tmp_path / f"{name}.{end}") for name in "ba") for end in ("en", "de")]
    assert read_pairs(*both).source == (*SOURCE[2:4], *SOURCE[:2])


def test_several_files_name_the_one_at_fault(tmp_path):
    for name, content in (("a", "one\teins\n"), ("b", "two\tzwei\nthree\n")):
        write(tmp_path / f"{name}.tsv", content)
    with pytest.raises(UserError, match=r"b\.tsv, line 2 has 1 column"):
        read_pairs(str(tmp_path / "*.tsv"))
    with pytest.raises(UserError, match=r"config.data.path='.*\*.xml' matches no file"):
        read_pairs(str(tmp_path / "*.xml"))
    with pytest.raises(UserError, match=r"names 2 files and config.data.target_path=.* names 1"):
        read_pairs(str(tmp_path / "*.tsv"), str(tmp_path / "a.tsv"))
    with pytest.raises(UserError, match=r"config.data.format='csv' has both sides in a file"):
        read_pairs(str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv"), format="csv")
    with pytest.raises(UserError, match=r"config.data.format='lines' has one side in a file"):
        read_pairs(str(tmp_path / "a.tsv"), format="lines")


def test_notes_name_what_was_detected(tmp_path):
    lines = (f"{one},{other}" for one, other in zip(SOURCE, TARGET, strict=True))
    path = write(tmp_path / "a.csv", joined(["en,de", *lines]).encode("utf-16"))
    config = DataConfig(source="text", path=path, validation_pairs=1, test_pairs=1)
    notes = text.load(config, tmp_path).statistics["notes"]
    assert notes == f"{path}: utf-16; {path}: columns 'en' and 'de' of the header"


def test_classes_of_json_lines(tmp_path):
    rows = (f'{{"text": "{line}", "label": {i % 2}}}' for i, line in enumerate(SOURCE))
    path = write(tmp_path / "a.jsonl", joined(rows))
    config = DataConfig(source="text", path=path, validation_pairs=1, test_pairs=1)
    loaded = corpus.load_corpus(config, tmp_path, "classify")
    assert set(loaded.train.target) == {"0", "1"}
    assert isinstance(loaded.test, corpus.Labelled)
