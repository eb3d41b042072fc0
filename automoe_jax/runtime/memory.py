"""Memory that a process has freed stays with it, for the next call of a program."""

import ctypes
import os
import sys

# a user's own choice, which stays
CHOSEN = ("GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX")
# options of mallopt(3), the GNU C library
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1
# One arena: the threads that run programs would otherwise have small heaps of their own, which
# large blocks do not fit into.
_OPTIONS = {_TRIM_THRESHOLD: _NEVER, _MMAP_MAX: 0, _ARENA_MAX: 1}


def keep_freed_memory() -> bool:
    """Lets the C library keep freed blocks of any size; returns whether it does: on Linux
    with glibc, unless an environment variable of CHOSEN says how glibc allocates.

    On CPU, XLA allocates the temporary memory of a program anew in every call, hundreds of MiB in a
    training step. By default such blocks are returned to the system, which maps and clears each
    page again at its first use (docs/benchmarks/training.md). Call this before threads start, that
    is before JAX computes. The process keeps the memory until it ends; where a small block lies
    above a freed one, that can be more than it ever used at once.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in CHOSEN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    return sum(mallopt(option, value) for option, value in _OPTIONS.items()) == len(_OPTIONS)
