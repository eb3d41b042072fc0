"""Device and versions with which a result was computed."""

import importlib.metadata
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
    """The accelerators, or the processor's name and its cores."""
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
        f"{names[0]}, {len(names)} cores"
        if names
        else f"{platform.processor() or platform.machine()} CPU"
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that affect results."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES} | {
        "python": platform.python_version()
    }
