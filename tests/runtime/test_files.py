"""Files on a disk and in an object store, simulated by fsspec's in-memory file system."""

import os
import pathlib
from collections.abc import Iterator

import fsspec
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from automoe_jax.errors import UserError
from automoe_jax.runtime.files import absolute, append_line, atomic_writer, is_local, read_lines


@pytest.fixture(params=["disk", "bucket"])
def folder(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[epath.Path]:
    if request.param == "disk":
        yield epath.Path(tmp_path)
        return
    fsspec.register_implementation("gcs", MemoryFileSystem, clobber=True)
    yield epath.Path("gs://bucket/run")
    MemoryFileSystem.store.clear()


def test_a_file_is_there_whole_or_not_at_all(folder: epath.Path) -> None:
    with atomic_writer(folder / "new" / "a") as file:
        file.write(b"one")
    assert (folder / "new" / "a").read_bytes() == b"one"
    with pytest.raises(TypeError), atomic_writer(folder / "new" / "a") as file:
        file.writelines([b"tw", "o"])
    assert (folder / "new" / "a").read_bytes() == b"one"
    assert [path.name for path in (folder / "new").iterdir()] == ["a"]


def test_content_is_synced_before_its_name_and_the_name_before_it_returns(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append(f"sync {os.readlink(f'/proc/self/fd/{descriptor}')}")
        fsync(descriptor)

    def renamed(source: str, target: str) -> None:
        done.append(f"rename to {target}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    with atomic_writer(tmp_path / "a") as file:
        file.write(b"one")
    assert done == [
        f"sync {tmp_path / '.a.part'}",
        f"rename to {tmp_path / 'a'}",
        f"sync {tmp_path}",
    ]


def test_lines_are_appended_after_the_last_complete_one(folder: epath.Path) -> None:
    path = folder / "new" / "lines"
    assert read_lines(path) == []
    append_line(path, b"one")
    append_line(path, b"two" * 3000)
    assert read_lines(path) == [b"one", b"two" * 3000]
    path.write_bytes(path.read_bytes()[:-1])
    assert read_lines(path) == [b"one"]
    append_line(path, b"three")
    assert path.read_bytes() == b"one\nthree\n"
    assert [one.name for one in path.parent.iterdir()] == ["lines"]


@pytest.mark.parametrize("name", ["a[1]", "run*", "what?", "back\\slash", "a[b/c"])
def test_a_path_that_checkpoints_cannot_be_read_from_is_refused(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"written but not read; rename that folder"):
        absolute(tmp_path / name / "run")
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / name)
    assert absolute(tmp_path / "link" / "run") == epath.Path(tmp_path / "link" / "run")
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(UserError, match="written but not read"):
        absolute("run")


def test_paths_of_every_other_kind(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a b").mkdir()
    monkeypatch.chdir(tmp_path / "a b")
    (tmp_path / "link").symlink_to("a b")
    assert absolute("~/x") == epath.Path(tmp_path / "x")
    assert absolute("../ünïcode {a,b} #%~!") == epath.Path(tmp_path / "ünïcode {a,b} #%~!")
    assert absolute(tmp_path / "link" / "x") == epath.Path(tmp_path / "link" / "x")
    assert absolute("x" * 200).name == "x" * 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("http://host/run", "in no store that is known"),
        ("GS://bucket/run", "in no store that is known"),
        ("s3://bucket/run", "cannot be reached"),
        ("gs:/bucket/run", "a bucket is written gs://BUCKET/FOLDER"),
        (b"/caf\xe9".decode(errors="surrogateescape"), "is not valid UTF-8"),
    ],
)
def test_a_path_that_leads_nowhere_is_one_sentence(path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        absolute(path)


def test_what_is_local() -> None:
    assert is_local(pathlib.Path("runs/a"))
    assert is_local(epath.Path("/runs/a"))
    assert not is_local(epath.Path("gs://bucket/a"))
