"""Files on a disk and in an object store, which an in-memory file system of fsspec stands for."""

import pathlib
from collections.abc import Iterator

import fsspec
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from automoe_jax.runtime.files import atomic_writer, is_local


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


def test_what_is_local() -> None:
    assert is_local(pathlib.Path("runs/a"))
    assert is_local(epath.Path("/runs/a"))
    assert not is_local(epath.Path("gs://bucket/a"))
