"""Exports of a workdir on first use, and its default precision."""

import json
import os
import pathlib

import pytest

from automoe_jax import names
from automoe_jax.errors import UserError
from automoe_jax.export import cache, workdirs
from automoe_jax.inference.engine.folder import VERSION, sha256, with_checksum
from automoe_jax.runtime.files import absolute
from automoe_jax.workdir import Workdir


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "",
        "[]",
        "null",
        "3",
        "{}",
        '{"precision": "int4", "shortlist": {}}',
        '{"precision": "int8", "shortlist": 3}',
        '{"precision": "int8", "shortlist": {"int8": []}}',
    ],
)
def test_damaged_defaults_are_named(content: str, tmp_path: pathlib.Path) -> None:
    assert cache.default_precision(str(tmp_path)) == "float32"
    assert cache.default_shortlist(str(tmp_path), "float32") == 0
    (tmp_path / "evaluate").mkdir()
    (tmp_path / names.DEFAULTS_FILE).write_text(content)
    for read in (cache.default_precision, lambda root: cache.default_shortlist(root, "int8")):
        with pytest.raises(UserError, match=r"defaults\.json is damaged; delete it, and choose"):
            read(str(tmp_path))


def test_a_file_in_place_of_a_workdir_has_no_defaults(tmp_path: pathlib.Path) -> None:
    (tmp_path / "run").write_text("")
    assert cache.default_precision(str(tmp_path / "run")) == "float32"
    with pytest.raises(UserError, match="holds no run"):
        cache.exported(str(tmp_path / "run"))


def workdir_with(root: pathlib.Path, weights: str) -> None:
    for name, *_ in cache._SOURCES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(weights)


def exporting(calls: list[str]):
    def export(root: str, folder: pathlib.Path, precision: str) -> None:
        calls.append(precision)
        folder.mkdir(parents=True, exist_ok=True)
        record = with_checksum({"trained": cache.fingerprint(root), "version": VERSION})
        (folder / cache.DESCRIPTION).write_text(json.dumps(record))

    return export


def test_exports_are_made_once_for_the_same_weights(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(workdirs, "export_onnx", exporting(calls))
    workdir_with(tmp_path, "first")
    folders = [cache.exported(str(tmp_path)) for _ in range(2)]
    assert folders == [tmp_path / "export" / "float32"] * 2
    cache.exported(str(tmp_path), "int8")
    workdir_with(tmp_path, "second")
    cache.exported(str(tmp_path))
    assert calls == ["float32", "int8", "float32"]


def test_a_workdir_that_cannot_be_written_to_exports_to_a_temporary_folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    export = exporting(calls)

    def export_elsewhere(root: str, folder: pathlib.Path, precision: str) -> None:
        if folder.is_relative_to(tmp_path):
            raise PermissionError(13, os.strerror(13), str(folder))
        export(root, folder, precision)

    monkeypatch.setattr(workdirs, "export_onnx", export_elsewhere)
    workdir_with(tmp_path, "first")
    folder = cache.exported(str(tmp_path))
    assert not folder.is_relative_to(tmp_path)
    assert (folder / cache.DESCRIPTION).exists()


@pytest.mark.parametrize("damage", ["changed", "removed", "description", "null", "entry"])
def test_a_damaged_export_is_made_again(
    damage: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def export(root: str, folder: pathlib.Path, precision: str) -> None:
        exporting(calls)(root, folder, precision)
        (folder / "weights.bin").write_bytes(b"weights")
        files = {"weights.bin": sha256(folder / "weights.bin")}
        text = json.loads((folder / cache.DESCRIPTION).read_text())
        (folder / cache.DESCRIPTION).write_text(json.dumps(with_checksum(text | {"files": files})))

    monkeypatch.setattr(workdirs, "export_onnx", export)
    workdir_with(tmp_path, "first")
    folder = cache.exported(str(tmp_path))
    if damage == "changed":
        (folder / "weights.bin").write_bytes(b"")
    elif damage == "removed":
        (folder / "weights.bin").unlink()
    elif damage == "entry":
        text = json.loads((folder / cache.DESCRIPTION).read_text())
        (folder / cache.DESCRIPTION).write_text(json.dumps(text | {"pad_id": 7}))
    else:
        (folder / cache.DESCRIPTION).write_text("null" if damage == "null" else "")
    for _ in range(2):
        assert cache.exported(str(tmp_path)) == folder
    assert calls == ["float32", "float32"]
    assert (folder / "weights.bin").read_bytes() == b"weights"


def test_a_damaged_shortlist_is_not_exported(tmp_path: pathlib.Path) -> None:
    workdir = Workdir(absolute(tmp_path))
    (tmp_path / "data").mkdir()
    workdir.shortlist_path.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"data/shortlist.npz is damaged .*; remove .*prepare.json"):
        workdirs._shortlist(workdir)
