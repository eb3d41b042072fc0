"""Files that text comes from: recorded, and compared later."""

import pathlib

import pytest

from automoe_jax.config import DataConfig
from automoe_jax.data.origin import changed, digests


def test_files_are_recorded_and_a_change_is_found(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.en").write_text("one\n")
    (tmp_path / "a.de").write_text("eins\n")
    recorded = digests(DataConfig(source="text", path="~/a.en", target_path="a.de"))
    assert list(recorded) == ["~/a.en", "a.de"]
    assert changed(recorded) is None
    (tmp_path / "a.de").write_text("zwei\n")  # as long as before
    assert changed(recorded) == "a.de"
    both = digests(DataConfig(source="text", path=f"{tmp_path}/*"))
    assert list(both) == [f"{tmp_path}/a.de", f"{tmp_path}/a.en"]
    (tmp_path / "a.de").unlink()
    assert changed(recorded) is None


def test_text_that_is_no_local_file_has_none(tmp_path: pathlib.Path) -> None:
    assert digests(DataConfig()) == {}
    assert digests(DataConfig(source="tfds", name="x", path=str(tmp_path))) == {}
    assert digests(DataConfig(source="text", path="gs://bucket/a.tsv")) == {}
