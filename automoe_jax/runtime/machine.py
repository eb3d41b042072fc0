"""Device and versions with which a result was computed."""

import importlib.metadata
import os
import pathlib
import platform

import jax

_LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "sentencepiece",
    "sacrebleu",
    "numpy",
)


def device() -> str:
    """The accelerators, or the processor's name and its cores; "1 of 2 cores" where this process
    may not use all of them, since the number of its threads affects how sums are rounded.
    """
    kind, count = jax.devices()[0].device_kind, jax.device_count()
    if jax.default_backend() != "cpu":
        return f"{count} × {kind}"
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    names = (
        [
            line.split(":")[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        if cpuinfo.exists()
        else []
    )
    return (
        f"{names[0]}, {_cores(len(names))}"
        if names
        else f"{platform.processor() or platform.machine()} CPU"
    )


def _cores(count: int) -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    cores = "1 core" if count == 1 else f"{count} cores"
    return cores if usable >= count else f"{usable} of {cores}"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that affect results."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES} | {
        "python": platform.python_version()
    }
