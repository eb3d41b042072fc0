"""Cleaning and splitting, common to all sources."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automoe_jax.config import DataConfig
from automoe_jax.data import corpus, text
from automoe_jax.data.cleaning import clean_line, duplicate_key
from automoe_jax.errors import UserError

LINES = st.text(alphabet="aAbB19 .,!äÄß", min_size=1, max_size=8).filter(str.strip)


def keys(pairs, side):
    return set(map(duplicate_key, getattr(pairs, side)))


@pytest.mark.parametrize("other", ["VERSION 2.7", "version 9.3", "Version (2 7)!", "version27"])
def test_near_duplicates_share_a_key(other):
    assert duplicate_key("Version 2.7") == duplicate_key(other)


@pytest.mark.parametrize("other", ["Versions 2.7", "version 2.71", "Fersion 2.7"])
def test_different_lines_have_different_keys(other):
    assert duplicate_key("Version 2.7") != duplicate_key(other)


def test_lines_of_punctuation_only_are_told_apart():
    assert duplicate_key("...") != duplicate_key("?!")


def test_clean_line_composes_characters_and_collapses_blanks():
    assert clean_line(" Gru\u0308n\tund\u00a0 rot\u2028gelb\r") == "Grün und rot gelb"


def test_unique_keeps_the_first_of_equal_pairs_only():
    pairs = corpus.Pairs(("A 1", "a 2!", "a 1", "b"), ("x", "X", "y", "x"))
    assert corpus.unique_indices(pairs) == [0, 2, 3]


@given(
    st.lists(st.tuples(LINES, LINES, st.integers(0, 9)), min_size=12, max_size=60),
    st.integers(0, 3),
)
def test_split_keeps_near_duplicates_and_groups_apart(rows, seed):
    pairs = corpus.Pairs(tuple(row[0] for row in rows), tuple(row[1] for row in rows))
    config = DataConfig(validation_pairs=3, test_pairs=3, seed=seed)
    try:
        train, validation, test, removed = corpus.split(
            pairs, [row[2] for row in rows], config, "the text"
        )
    except UserError:  # every pair overlaps with what is held out
        return
    for side in ("source", "target"):
        assert not keys(train, side) & (keys(validation, side) | keys(test, side))
        assert not keys(validation, side) & keys(test, side)
    groups = {(source, target): group for source, target, group in rows}
    if len(groups) == len(rows):
        assert not {groups[pair] for pair in train} & {groups[pair] for pair in test}
    assert len(test) == 3
    assert len(validation) <= 3
    assert len(train) + removed[corpus.OVERLAPPING] <= len(rows) - 3


def test_split_depends_on_the_seed_alone():
    pairs = corpus.Pairs(tuple(map(str.title, WORDS)), tuple(map(str.upper, WORDS)))
    first, again, other = (
        corpus.split(
            pairs, range(len(pairs)), DataConfig(validation_pairs=5, test_pairs=5, seed=seed), "it"
        )
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_too_few_pairs_is_an_error_that_names_the_fields():
    pairs = corpus.Pairs(tuple(WORDS), tuple(WORDS))
    with pytest.raises(
        UserError,
        match=(
            r"the text has 40 usable pairs, too few to hold out config.data.validation_pairs=30 and"
            r" .*test_pairs=10"
        ),
    ):
        corpus.split(pairs, range(40), DataConfig(validation_pairs=30, test_pairs=10), "the text")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["one"] * 40, r"the text has no validation text: all 8 pairs drawn for it are near-dup"),
        (
            ["one", "two"] * 20,
            r"the text has (no validation text|nothing left to train on after holding out)",
        ),
    ],
)
def test_text_that_repeats_itself_is_named_as_the_cause(targets, message):
    pairs = corpus.Pairs(tuple(WORDS), tuple(targets))
    with pytest.raises(UserError, match=f"{message}.*near-duplicates"):
        corpus.split(pairs, range(40), DataConfig(validation_pairs=8, test_pairs=8), "the text")


def test_near_duplicates_left_out_of_validation_are_counted():
    targets = [*WORDS[:32], *["the same"] * 8]
    pairs = corpus.Pairs(tuple(WORDS), tuple(targets))
    config = DataConfig(validation_pairs=10, test_pairs=10)
    *parts, removed = corpus.split(pairs, range(40), config, "the text")
    lost = removed.get(corpus.OVERLAPPING_VALIDATION, 0)
    assert lost > 0
    assert len(parts[1]) == 10 - lost
    assert sum(map(len, parts)) + sum(removed.values()) == 40


def test_groups_that_leave_nothing_for_validation():
    pairs = corpus.Pairs(tuple(WORDS), tuple(WORDS))
    config = DataConfig(validation_pairs=8, test_pairs=8)
    with pytest.raises(UserError, match="too few groups of pairs that belong together"):
        corpus.split(pairs, [0] * 40, config, "the text")


def test_unknown_source_is_an_error(tmp_path):
    with pytest.raises(
        UserError, match=r"config.data.source='web' must be one of toy, debian, text, folder,"
    ):
        corpus.load_corpus(DataConfig(source="web"), tmp_path)


def test_statistics_are_json_and_read_as_a_table(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{word} one\t{word} eins\n" for word in [*WORDS, *WORDS[:3]]))
    config = DataConfig(source="text", path=str(path), validation_pairs=5, test_pairs=4, pairs=10)
    loaded = corpus.load_corpus(config, tmp_path)
    assert json.loads(json.dumps(loaded.statistics)) == loaded.statistics
    assert loaded.statistics["preparation"]["duplicates removed"] == 3
    assert loaded.statistics["splits"]["train"] == {
        "pairs": 10,
        "source_words": 20,
        "target_words": 20,
    }
    table = corpus.describe(loaded.statistics)
    assert "duplicates removed" in table
    assert max(map(len, table.splitlines())) <= 100
    assert text.load(config, tmp_path) == loaded


WORDS = [first + second for first in "bcdfghjk" for second in ("alo", "emi", "iru", "oga", "une")]
