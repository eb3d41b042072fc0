"""Rows and samples: recognised by role and variant, written to JSON and read back, version 0.1's
files included.
"""

import json

import pytest

from automoe_jax.report.rows import RETRAINED, Piece, Role, Row, RowKey, Sample, find

KEYS = {
    "retrained": ("retrained sub-Transformer", RETRAINED),
    "retrained_int8": ("retrained sub-Transformer (int8)", RowKey(Role.RETRAINED, "int8")),
    "inherited": ("inherited weights", RowKey(Role.INHERITED)),
    "dense": ("largest dense", RowKey(Role.DENSE)),
    "baseline_word_by_word": ("word by word", RowKey(Role.BASELINE, "word_by_word")),
    "baseline_copy": ("copy of the source", RowKey(Role.BASELINE, "copy")),
}


@pytest.mark.parametrize("text", KEYS)
def test_a_key_is_read_from_its_short_form_and_from_its_title(text: str) -> None:
    title, key = KEYS[text]
    assert str(key) == text
    assert key.title == title
    assert RowKey.parse(text) == RowKey.parse(title) == key


def test_a_title_that_begins_like_a_role_is_no_such_row() -> None:
    assert RowKey.parse("largest dense Transformer of another paper").role is Role.BASELINE


def test_rows_survive_json() -> None:
    row = Row(
        Role.RETRAINED,
        "int8",
        bleu=0.0,
        flops=9e6,
        expert_loads=((0.25, 0.75), (1.0,)),
        experts_of_pieces=(Piece("▁the", 3, 1.5, "frequent"),),
        experts_of_groups={"frequent": 1.5},
        note="smaller",
    )
    record = json.loads(json.dumps(row.to_json()))
    assert Row.from_json(record) == row
    assert record["name"] == "retrained sub-Transformer (int8)"
    assert "accuracy" not in record


def test_records_of_version_0_1_are_read() -> None:
    record = {"name": "retrained sub-Transformer (mean)", "bleu": 1.5, "outputs": ["a"]}
    assert Row.from_json(record) == Row(Role.RETRAINED, "mean", bleu=1.5)
    sample = {"source": "a", "reference": "b", "retrained sub-Transformer": "c"}
    assert Sample.from_json(sample) == Sample("a", "b", {RETRAINED: "c"})
    assert Sample.from_json(json.loads(json.dumps(Sample.from_json(sample).to_json()))) == (
        Sample.from_json(sample)
    )


def test_the_configured_variant_is_found_whatever_comes_first() -> None:
    rows = [Row(Role.RETRAINED, "int8", bleu=1.0), Row(Role.RETRAINED, bleu=2.0)]
    assert find(rows, RETRAINED) is rows[1]
    assert find(rows[:1], RETRAINED) is None
