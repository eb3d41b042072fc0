"""The file of candidates in an object store, simulated by fsspec's in-memory file system."""

import fsspec
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from automoe_jax.search import history
from tests.search.test_history import candidates


def test_what_is_appended_is_loaded_and_half_a_line_is_cut_off() -> None:
    fsspec.register_implementation("gcs", MemoryFileSystem, clobber=True)
    path = epath.Path("gs://bucket/run/history.jsonl")
    assert history.load(path) == []
    for one in candidates(2):
        history.append(path, one)
    assert history.load(path) == candidates(2)
    path.write_bytes(path.read_bytes()[:-1])
    history.append(path, candidates(3)[2])
    assert history.load(path) == [candidates(3)[0], candidates(3)[2]]
    MemoryFileSystem.store.clear()
