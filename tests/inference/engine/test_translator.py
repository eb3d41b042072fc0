"""Lines of text through an exported folder."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from automoe_jax.errors import UserError
from automoe_jax.inference.decode import translate_lines
from automoe_jax.inference.engine.translator import load
from tests.inference.engine import folders

LINES = [*folders.LINES, "", "the small dog sees a bird " * 8, "dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return folders.write(tmp_path_factory.mktemp("export") / "model")


def test_lines_are_those_of_jax(folder: pathlib.Path) -> None:
    translator, (_, network) = load(folder), folders.network()
    expected = translate_lines(
        network,
        translator.tokenizer,
        LINES,
        buckets=folders.BUCKETS,
        beam_size=3,
        length_penalty=0.6,
        batch_sizes=(8,),
    )
    done: list[int] = []
    assert translator(LINES, done.append) == expected
    assert sum(done) == len(LINES)


def test_translations_consist_of_candidates_in_any_batch(folder: pathlib.Path) -> None:
    translator = load(folder, shortlist=5)
    assert translator.shortlist is not None
    sources = translator.tokenizer.encode(folders.LINES)
    together = translator.translate_ids(sources)
    assert any(len(found) for found in together)
    for source, found in zip(sources, together, strict=True):
        candidates = translator.shortlist.of_sentence(source, 5)
        assert set(found.tolist()) <= set(candidates.tolist())
        np.testing.assert_array_equal(translator.translate_ids([source])[0], found)


def test_the_folder_has_a_default(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert load(folder).shortlist is None
    other = folders.write(tmp_path / "model", shortlist=7)
    assert load(other).shortlist_size == 7
    assert load(other, shortlist=0).shortlist is None


def test_a_folder_without_a_shortlist(tmp_path: pathlib.Path) -> None:
    folder = folders.write(tmp_path / "model", with_table=False)
    assert load(folder)(["dog"])
    with pytest.raises(UserError, match=r"holds no shortlist.*--shortlist=0"):
        load(folder, shortlist=5)


def test_a_changed_shortlist_is_noticed(tmp_path: pathlib.Path) -> None:
    folder = folders.write(tmp_path / "model")
    (folder / "shortlist.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"shortlist\.npz is not the file that was exported"):
        load(folder)


def test_a_piece_without_a_row_is_a_sentence(folder: pathlib.Path) -> None:
    translator = load(folder, shortlist=5)
    with pytest.raises(UserError, match="no row for the piece 999"):
        translator.translate_ids([np.array([5, 999])])


def test_needs_no_jax(folder: pathlib.Path) -> None:
    program = (
        "import sys; from automoe_jax.inference.engine.translator import load;"
        f"load({str(folder)!r}, shortlist=5)(['dog']);"
        "assert not {'jax', 'flax', 'grain', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
