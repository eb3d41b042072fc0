"""Debian's package descriptions, parsed from small files; one test fetches the real ones with
apt.
"""

import gzip
import itertools
import json
import shutil

import pytest

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus, debian
from automoe_jax.data.cleaning import duplicate_key
from automoe_jax.errors import UserError

ENGLISH = """\
Package: chess
Description-md5: 11
Description-en: game of chess
 This is a game for two players. It was
 invented long ago.
 .
 It comes with:
  * a board
  * thirty-two
    pieces
 .
 Version 2.0 is new. Have fun!

Package: orphan
Description-md5: 22
Description-en: nobody translated this

Package: paint
Description-md5: 33
Description-en: draws pictures
 First paragraph.
 .
 Second paragraph.
"""
GERMAN = """\
Package: chess
Description-md5: 11
Description-de: Schachspiel
 Dies ist ein Spiel für zwei Spieler. Es wurde vor langer Zeit
 erfunden.
 .
 Es enthält:
  * ein Brett
  * zweiunddreißig Figuren
 .
 Version 2.0 ist neu, viel Spaß damit!

Package: paint
Description-md5: 33
Description-de: malt Bilder
 Nur ein Absatz.

Package: unknown
Description-md5: 44
Description-de: ohne Original
 Text.
"""


def joined(english=ENGLISH, german=GERMAN):
    theirs = {
        description.md5: description for description in debian.parse(german.split("\n"), "de")
    }
    ours = {
        description.md5: description
        for description in debian.parse(english.split("\n"), "en", theirs)
    }
    return debian.join(ours, theirs.values())


def test_stanzas_become_descriptions():
    first, *rest = debian.parse(ENGLISH.split("\n"), "en")
    assert (first.package, first.md5, first.title) == ("chess", "11", "game of chess")
    assert first.paragraphs == (
        ("This is a game for two players. It was invented long ago.",),
        ("It comes with:", "a board", "thirty-two pieces"),
        ("Version 2.0 is new. Have fun!",),
    )
    assert [description.package for description in rest] == ["orphan", "paint"]


def test_the_last_stanza_needs_no_empty_line_and_lines_may_come_one_by_one():
    assert list(debian.parse(iter(GERMAN.rstrip().split("\n")), "de")) == list(
        debian.parse(GERMAN.split("\n"), "de")
    )


def test_titles_paragraphs_items_and_sentences_align():
    result = joined()
    assert list(zip(result.packages, *zip(*result.pairs, strict=True), strict=True)) == [
        ("chess", "game of chess", "Schachspiel"),
        ("chess", "This is a game for two players.", "Dies ist ein Spiel für zwei Spieler."),
        ("chess", "It was invented long ago.", "Es wurde vor langer Zeit erfunden."),
        ("chess", "It comes with:", "Es enthält:"),
        ("chess", "a board", "ein Brett"),
        ("chess", "thirty-two pieces", "zweiunddreißig Figuren"),
        ("chess", "Version 2.0 is new. Have fun!", "Version 2.0 ist neu, viel Spaß damit!"),
        ("paint", "draws pictures", "malt Bilder"),
    ]
    assert result.counts == {
        "packages translated": 3,
        "packages without English text": 1,
        "packages of which only the title aligns": 1,
    }


def test_filters_and_duplicates_are_counted():
    rows = {
        "A good library": "Eine gute Bibliothek",
        "GNU Emacs": "GNU Emacs!",
        "1.2 / 3": "1.2 / 3 !",
        "a good library.": "eine gute Bibliothek.",
        "Short.": "Das ist aber eine wirklich sehr viel zu lange Übersetzung davon.",
        "word " * 101: "Wort " * 90,
    }
    pairs = corpus.Pairs(tuple(rows), tuple(rows.values()))
    counts = {}
    clean, packages = debian.cleaned(debian.Joined(tuple("abcdef"), pairs, {}), counts)
    assert list(clean) == [("A good library", "Eine gute Bibliothek")]
    assert packages == ["a"]
    assert list(counts.values()) == [6, 1, 1, 1, 1, 1, 1]
    assert counts["aligned pairs"] - counts["clean unique pairs"] == sum(
        list(counts.values())[1:-1]
    )


@pytest.fixture
def cache(tmp_path):
    """A cache as `fetch` writes it, of 60 packages with three pairs each."""
    rows = [
        (f"p{i}", f"{kind} of {name}", f"{deutsch} von {name}")
        for i, name in enumerate(
            a + b for a in ("ba", "de", "fi", "go", "hu", "ky") for b in "klmnprstvz"
        )
        for kind, deutsch in (("tools", "Werkzeuge"), ("names", "Namen"), ("colours", "Farben"))
    ]
    saved = {
        "packages": [r[0] for r in rows],
        "english": [r[1] for r in rows],
        "foreign": [r[2] for r in rows],
        "counts": {},
    }
    (tmp_path / "debian-en-de.json.gz").write_bytes(gzip.compress(json.dumps(saved).encode()))
    return tmp_path


def test_split_is_by_package_and_needs_no_second_download(cache, capsys):
    config = DataConfig(source="debian", validation_pairs=9, test_pairs=12)
    loaded = corpus.load_corpus(config, cache)
    assert [len(part) for part in (loaded.train, loaded.validation, loaded.test)] == [159, 9, 12]
    names = [
        {line.split()[-1] for line in part.source}
        for part in (loaded.train, loaded.validation, loaded.test)
    ]
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    assert not names[1] & names[2]
    assert corpus.load_corpus(config, cache) == loaded
    assert "debian: using" in capsys.readouterr().err


def test_german_to_english_turns_the_pairs_round(cache):
    config = DataConfig(
        source="debian",
        source_language="de",
        target_language="en",
        validation_pairs=9,
        test_pairs=12,
    )
    assert all(
        " von " in source and " of " in target
        for source, target in debian.load(config, cache).train
    )


def test_one_language_must_be_english(tmp_path):
    with pytest.raises(UserError, match="one of them must be 'en'"):
        debian.load(DataConfig(source="debian", source_language="fr"), tmp_path)


def test_without_apt_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"needs apt, which this machine lacks .*; use data.source='text'"
    ):
        debian.load(DataConfig(source="debian"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_cache_is_fetched_again(cache, monkeypatch, capsys):
    path = cache / "debian-en-de.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(UserError, match="needs apt"):
        debian.load(DataConfig(source="debian"), cache)
    assert "is damaged" in capsys.readouterr().err


needs_apt = pytest.mark.skipif(not shutil.which("apt-get"), reason="this machine has no apt")


@needs_apt
def test_apt_without_sources_says_why(tmp_path, monkeypatch):
    """apt's own configuration variable points it to a folder without package sources."""
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{tmp_path}/none";\nDir::Etc::SourceParts "{tmp_path}/none.d";\n'
    )
    (tmp_path / "none").touch()
    (tmp_path / "none.d").mkdir()
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    with pytest.raises(
        UserError,
        match=r"apt offers no Translation-en package descriptions \(.*\); use data.source='text'",
    ):
        debian.load(DataConfig(source="debian"), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@needs_apt
def test_an_unreachable_mirror_says_why(tmp_path, monkeypatch):
    (tmp_path / "sources.list").write_text(
        f"deb [trusted=yes] file:{tmp_path}/mirror stable main\n"
    )
    (tmp_path / "none.d").mkdir()
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{tmp_path}/sources.list";\nDir::Etc::SourceParts'
        f' "{tmp_path}/none.d";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    with pytest.raises(
        UserError,
        match=r"apt offers no Translation-en .*\([EW]: .*mirror.*\); use data.source='text'",
    ):
        debian.load(DataConfig(source="debian"), tmp_path / "cache")


@needs_apt
@pytest.mark.slow
def test_real_descriptions(tmp_path):
    try:
        loaded = corpus.load_corpus(DataConfig(source="debian"), tmp_path)
    except UserError as error:
        pytest.skip(str(error))
    assert len(loaded.train) > 20_000
    assert [child.name for child in tmp_path.iterdir()] == ["debian-en-de.json.gz"]
    assert any("Bibliothek" in target for _, target in loaded.train)
    for side in ("source", "target"):
        train, *held_out = (
            set(map(duplicate_key, getattr(part, side)))
            for part in (loaded.train, loaded.validation, loaded.test)
        )
        assert not train & set().union(*held_out)


LETTERS = list(itertools.product("abcdefghijklmnop", repeat=2))
PACKAGES = """Package: chess
Source: chess-suite (1.2)
Description-md5: 11
Section: games

Package: libchess
Source: chess-suite
Description-md5: 99
Section: libs

Package: paint
Description-md5: 22
Section: contrib/graphics
Tag: role::program,
 use::drawing
"""


def test_packages_get_their_descriptions_and_sections():
    assert list(debian.parse_sections(PACKAGES.split("\n"))) == [
        ("11", "games", "chess-suite"),
        ("99", "libs", "chess-suite"),
        ("22", "graphics", "paint"),
    ]
    descriptions = {
        description.md5: description for description in debian.parse(ENGLISH.split("\n"), "en")
    }
    found = debian.label({"11": descriptions["11"]}, debian.parse_sections(PACKAGES.split("\n")))
    assert found.packages == ("chess-suite",)
    assert found.pairs.target == ("games",)
    assert found.pairs.source[0].startswith(
        "game of chess: This is a game for two players. It was invented long ago. It comes with: a"
        " board"
    )
    assert found.counts == {"packages described": 1}


def test_sections_are_split_by_source_package_and_rare_ones_left_out(tmp_path):
    rows = [
        (
            f"s{i // 2}",
            f"{'plays' if i % 2 else 'draws'} the thing {a}{b}",
            ("games", "graphics")[i % 2],
        )
        for i, (a, b) in enumerate(LETTERS)
    ]
    rows += [("rare", "of its own kind", "kernel")]
    saved = {
        "packages": [r[0] for r in rows],
        "english": [r[1] for r in rows],
        "foreign": [r[2] for r in rows],
        "counts": {},
    }
    (tmp_path / "debian-sections.json.gz").write_bytes(gzip.compress(json.dumps(saved).encode()))
    loaded = corpus.load_corpus(
        DataConfig(source="debian", validation_pairs=20, test_pairs=30), tmp_path, "classify"
    )
    assert len(loaded.test) == 30
    assert {
        name for part in (loaded.train, loaded.validation, loaded.test) for name in part.target
    } == {"games", "graphics"}
    group = {text: source for source, text, _ in rows}
    groups = [
        {group[text] for text in part.source}
        for part in (loaded.train, loaded.validation, loaded.test)
    ]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert loaded.statistics["preparation"]["removed: of sections of fewer than 100 packages"] == 1
