"""Freed memory stays with the process, so that its next use touches no new page."""

import os
import subprocess
import sys

import pytest

from automoe_jax.runtime.memory import CHOSEN, keep_freed_memory

ALLOCATES_TWICE = """
import ctypes, resource, sys, threading
from automoe_jax.runtime.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "kept" else False
libc, size = ctypes.CDLL(None), 100 << 20
libc.malloc.restype = ctypes.c_void_p
pages = []
def use():
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    ctypes.memset(block, 1, size)
    libc.free(block)
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
def uses():
    for _ in range(2):
        use()
thread = threading.Thread(target=uses)
thread.start()
thread.join()
print(kept, pages[1] - pages[0])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_pages_are_touched_once() -> None:
    """100 MiB twice, in a thread as XLA: the second time the pages are new only by default."""
    results = {}
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    for mode in ("kept", "default"):
        command = [sys.executable, "-c", ALLOCATES_TWICE, mode]
        output = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout
        kept, pages = output.split()
        results[mode] = (kept, int(pages))
    assert results["kept"][0] == "True"
    assert results["kept"][1] < 10
    assert results["default"][1] > 20  # 50 pages of 2 MiB, or 25 600 of 4 KiB


@pytest.mark.parametrize("name", CHOSEN)
def test_a_users_choice_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory()
