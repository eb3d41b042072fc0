"""Differences of the rows of networks from the retrained one."""

import dataclasses

import pytest

from automoe_jax.config import Config
from automoe_jax.evaluation.differences import with_differences
from automoe_jax.evaluation.results import Scored
from automoe_jax.report.headline import caveats, headline
from automoe_jax.report.rows import DENSE, RETRAINED, RIVAL, Role, Row, RowKey

REFERENCES = [f"the {word} sleeps in the {other} house" for word in "abcde" for other in "vwxyz"]
WORSE = [line.replace("house", "home") for line in REFERENCES]
NETWORKS = [
    Scored(Row(*RETRAINED, bleu=80.0), WORSE),
    Scored(Row(*RowKey(Role.RETRAINED, "onnx"), bleu=80.0), WORSE),
    Scored(Row(*DENSE, bleu=100.0, note="a note"), REFERENCES),
]


def test_the_dense_network_gets_a_difference_with_its_interval():
    found, engine, dense = with_differences(Config(), NETWORKS, REFERENCES)
    assert [found, engine] == [one.row for one in NETWORKS[:2]]
    assert dense.bleu_difference == pytest.approx(100 - 79, abs=10)
    low, high = dense.bleu_interval
    assert 0 < low <= dense.bleu_difference <= high
    assert dense.note.endswith("BLEU against retrained sub-Transformer; a note")
    (sentence,) = caveats([found, engine, dense], seed=3)
    assert f"is {-dense.bleu_difference:+.2f} ({-high:+.2f} to {-low:+.2f})" in sentence
    assert "one run with seed 3" in sentence


def test_the_dense_rival_is_named_in_the_first_sentences():
    rival = Scored(Row(*RIVAL, bleu=100.0, deployed_ms=1.5), REFERENCES)
    found = Scored(Row(*RETRAINED, bleu=80.0, deployed_ms=2.0), WORSE)
    rows = with_differences(Config(), [found, rival], REFERENCES)
    low, high = rows[1].bleu_interval
    said = headline(rows)
    assert said.endswith("; the best dense one within the limits takes 1.50 ms with 100.0 BLEU.")
    (sentence,) = caveats(rows, seed=0)
    assert (
        f"minus that of the best dense one within the limits is {-rows[1].bleu_difference:+.2f} ("
        in sentence
    )
    assert f"({-high:+.2f} to {-low:+.2f})" in sentence
    rows = [dataclasses.replace(row, deployed_ms=None, flops=1e6) for row in rows]
    assert headline(rows).endswith("within the limits reaches 100.0 BLEU at 1.00 MFLOPs.")


def test_equal_outputs_do_not_differ():
    same = [NETWORKS[0], dataclasses.replace(NETWORKS[2].row), WORSE]
    _, dense = with_differences(Config(), [same[0], Scored(same[1], WORSE)], REFERENCES)
    assert dense.bleu_difference == 0
    assert dense.bleu_interval == (0, 0)


def test_classes_differ_in_accuracy():
    networks = [
        Scored(Row(*RETRAINED, accuracy=50.0), ["a", "b"] * 10),
        Scored(Row(*DENSE, accuracy=100.0), ["a"] * 20),
    ]
    _, dense = with_differences(Config(task="classify"), networks, ["a"] * 20)
    assert dense.bleu_difference is None
    assert dense.note.startswith("+50.00 (")
    assert "% accuracy against" in dense.note
