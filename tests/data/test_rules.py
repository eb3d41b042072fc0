"""Rules of cleaning: what they leave out, with examples, and their settings."""

import dataclasses
import json

import pytest

from automoe_jax.config import CleaningConfig, Config, DataConfig, check
from automoe_jax.data import corpus, rules
from automoe_jax.data.corpus import Pairs
from automoe_jax.errors import UserError

WORDS = ("alo", "emi", "iru", "oga", "une", "aba", "eda", "ifa")


def cleaned(rows, labelled=False, **settings):
    """The rows left, and the removals by rule."""
    kind = corpus.Labelled if labelled else Pairs
    pairs = kind(tuple(row[0] for row in rows), tuple(row[1] for row in rows))
    cleaner = rules.Cleaner(pairs, lambda i: f"a.tsv, line {i + 1}")
    cleaning = CleaningConfig(**settings)
    cleaner.apply(DataConfig(cleaning=cleaning), labelled=labelled)
    return list(cleaner.pairs), {removal.rule: removal for removal in cleaner.removals}


def test_by_default_only_near_duplicates_are_left_out():
    rows = [("one 1", "eins 1"), ("same", "same"), ("One 2!", "EINS 2"), ("a", "b" * 90)]
    left, removals = cleaned(rows)
    assert left == [rows[0], rows[1], rows[3]]
    assert list(removals) == [corpus.DUPLICATES]
    (example,) = removals[corpus.DUPLICATES].examples
    assert example == ("a.tsv, line 3", "One 2!", "EINS 2", "")


@pytest.mark.parametrize(("kind", "count"), [("near", 2), ("exact", 1), ("kept", 0)])
def test_duplicates(kind, count):
    rows = [("one 1", "eins"), ("one 2", "eins"), ("one 1", "eins")]
    left, _ = cleaned(rows, duplicates=kind)
    assert len(left) == 3 - count


def test_lengths_are_relative_to_their_usual_ratio():
    rows = [(word * 4, word) for word in WORDS] + [("abc", "abc" * 5), ("ab" * 60, "abc")]
    left, removals = cleaned(rows, max_length_ratio=3.0)
    assert left == rows[:-2]
    assert removals[rules.RATIO].count == 2
    assert removals[rules.RATIO].setting == "config.data.cleaning.max_length_ratio"


def test_identical_sides():
    left, _ = cleaned([("OK", "ok"), ("yes", "ja")], drop_identical=True)
    assert left == [("yes", "ja")]


def test_scripts_of_the_languages():
    pytest.importorskip("langcodes")
    rows = [
        ("good day", "Guten Tag"),
        ("good day", "Добрый день"),
        ("доброе утро", "Guten Morgen"),
        ("1 + 1 = 2", "1 + 1 = 2"),
        ("the letter я", "der Buchstabe я"),
    ]
    left, removals = cleaned(rows, min_script_share=0.5)
    assert left == [rows[0], rows[3], rows[4]]
    assert [one.place for one in removals[rules.SCRIPT].examples] == [
        "a.tsv, line 2",
        "a.tsv, line 3",
    ]
    left, _ = cleaned(rows, min_script_share=0.5, target_scripts="Latn, Cyrl")
    assert left == [rows[0], rows[1], rows[3], rows[4]]
    left, _ = cleaned(rows, labelled=True, min_script_share=0.5, duplicates="kept")
    assert rows[1] in left
    with pytest.raises(UserError, match=r"source_scripts='Lat' must list codes of scripts"):
        cleaned(rows, min_script_share=0.5, source_scripts="Lat")


def test_scripts_of_east_asian_languages():
    scripts = pytest.importorskip("automoe_jax.data.scripts")
    pytest.importorskip("langcodes")
    lines = ["今日は天気がいい", "今天天气很好", "오늘", "hello", "123"]
    for language, shares in (("ja", [1, 1, 0, 0, 1]), ("zh", [0.5, 1, 0, 0, 1])):
        found = scripts.share_in(lines, scripts.of_language(language, "source"))
        assert found.tolist() == shares
    with pytest.raises(UserError, match=r"config.data.source_language='no such' has no known scr"):
        scripts.of_language("no such", "source")


def test_examples_are_spread_over_the_text_and_are_json():
    rows = [("same", "same")] * 101
    _, removals = cleaned(rows)
    removal = removals[corpus.DUPLICATES]
    assert removal.count == 100
    assert [one.place for one in removal.examples] == [
        f"a.tsv, line {i}" for i in (2, 27, 52, 76, 101)
    ]
    assert json.loads(json.dumps(removal.as_json())) == removal.as_json()
    (line, example) = rules.describe([removal.as_json()])
    assert line == "  duplicates removed: 100 (config.data.cleaning.duplicates)"
    assert example == "    a.tsv, line 2: same | same"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length_ratio": 0.5}, r"max_length_ratio=0.5 must be greater than 1, or 0"),
        ({"min_script_share": 1.5}, r"min_script_share=1.5 must be in \[0, 1\]"),
        ({"max_similarity": 0.2}, r"max_similarity=0.2 must be in \[0.5, 1\]"),
        ({"duplicates": "all"}, r"duplicates='all'"),
    ],
)
def test_rules_of_the_settings(settings, message):
    data = DataConfig(source="text", path="a", cleaning=CleaningConfig(**settings))
    with pytest.raises(UserError, match=f"config.data.cleaning.{message}"):
        check(dataclasses.replace(Config(), data=data))


def test_settings_without_effect_are_errors():
    data = DataConfig(cleaning=CleaningConfig(drop_identical=True))
    with pytest.raises(UserError, match=r"has no effect with config.data.source='toy', only with"):
        check(dataclasses.replace(Config(), data=data))
