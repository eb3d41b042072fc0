"""Memory that a process has freed stays with it, for the next call of a program."""

import ctypes
import sys

# options of mallopt(3), the GNU C library
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_OPTIONS = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0, _ARENA_MAX: 1}


def keep_freed_memory() -> bool:
    """Lets the C library keep freed blocks of any size; returns whether it can (Linux with glibc).

    On CPU, XLA allocates the temporary memory of a program anew in every call, hundreds of MiB in a
    training step. By default such blocks are returned to the system, which maps and clears each
    page again at its first use (docs/benchmarks/training.md). Call this before threads start, that
    is before JAX computes. The process keeps its largest size until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    return sum(mallopt(option, value) for option, value in _OPTIONS.items()) == len(_OPTIONS)
