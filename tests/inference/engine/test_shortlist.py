"""Candidates of sentences and batches."""

import dataclasses
import io

import numpy as np
import pytest

from automoe_jax.errors import UserError
from automoe_jax.inference.engine import shortlist as module
from automoe_jax.inference.engine.shortlist import Shortlist, load_shortlist

TABLE = np.full((8, 3), -1, np.int32)
TABLE[4] = 20, 21, 22
TABLE[5] = 21, 23, -1
SHORTLIST = Shortlist(np.array([0, 1, 2]), np.array([30, 31, 32], np.int32), TABLE)


def test_candidates_of_a_sentence() -> None:
    found = SHORTLIST.of_sentence(np.array([4, 5, 6]), 2)
    assert found.tolist() == [0, 1, 2, 4, 5, 6, 20, 21, 23, 30, 31]
    assert SHORTLIST.of_sentence(np.array([], np.int32), 1).tolist() == [0, 1, 2, 30]


def test_pieces_of_another_vocabulary_are_copied_by_their_text() -> None:
    separate = dataclasses.replace(SHORTLIST, copies=np.array([0, 1, 2, 3, 25, -1, 26, -1]))
    found = separate.of_sentence(np.array([4, 5, 6]), 1)
    assert found.tolist() == [0, 1, 2, 20, 21, 25, 26, 30]
    file = io.BytesIO()
    separate.save(file)
    loaded = load_shortlist(file.getvalue(), "x.npz")
    np.testing.assert_array_equal(loaded.copies, separate.copies)


def test_a_batch_masks_the_candidates_of_other_sentences() -> None:
    found = SHORTLIST.of_batch([np.array([4]), np.array([5])], 1)
    assert found.pieces.tolist() == [0, 1, 2, 4, 5, 20, 21, 30]
    assert found.own.tolist() == [
        [True, True, True, True, False, True, False, True],
        [True, True, True, False, True, False, True, True],
    ]


def test_the_least_probable_are_left_out(monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    found = SHORTLIST.of_sentence(np.array([4, 5]), 3)
    assert found.tolist() == [0, 1, 2, 4, 5, 20, 21, 30, 31, 32]  # the first choices of both


def test_a_piece_without_a_row() -> None:
    with pytest.raises(UserError, match=r"no row for the piece 8 \(its table has 8 rows\)"):
        SHORTLIST.of_sentence(np.array([4, 8]), 1)


def test_files() -> None:
    file = io.BytesIO()
    SHORTLIST.save(file)
    loaded = load_shortlist(file.getvalue(), "x.npz")
    np.testing.assert_array_equal(loaded.translations, TABLE)
    assert loaded.copies is None
    for content in (file.getvalue()[:100], b"", b"PK"):
        with pytest.raises(UserError, match=r"x\.npz is damaged"):
            load_shortlist(content, "x.npz")


@pytest.mark.parametrize("size", [-1, 4])
def test_sizes_beyond_the_table(size: int) -> None:
    with pytest.raises(UserError, match=f"--shortlist={size} must be between 0, .*, and 3"):
        SHORTLIST.checked_size(size)
