"""Your own files: what is read, and the sentence each mistake gets."""

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


def test_too_few_pairs(tmp_path):
    path = write(tmp_path / "a.tsv", "a\tb\nc\td\n")
    with pytest.raises(UserError, match=r"a.tsv' has 2 usable pairs, too few to hold out"):
        text.load(DataConfig(source="text", path=path), tmp_path)
