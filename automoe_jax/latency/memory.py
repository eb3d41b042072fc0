"""Resident memory of a process that runs a model: `python -m automoe_jax.latency.memory FOLDER`."""

import pathlib
import re
import resource
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from automoe_jax.inference.engine.session import run, session
from automoe_jax.latency.timing import Model

_MODEL, _FEEDS = "model.onnx", "feeds.npz"
_KIB_PER_MB = 1e6 / 1024


def resident_mb(model: Model) -> float:
    """Largest resident memory, in MB, of a new process that loads the model and runs its batch."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / _MODEL).write_bytes(model.content)
        feeds: dict[str, Any] = dict(model.feeds)
        np.savez(folder / _FEEDS, **feeds)
        command = [sys.executable, "-m", __name__, name, str(model.threads)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(ran.stdout)


def _main(folder: pathlib.Path, threads: int) -> None:
    loaded = session(str(folder / _MODEL), threads)
    with np.load(folder / _FEEDS) as feeds:
        run(loaded, dict(feeds))
    print(_peak_kib() / _KIB_PER_MB)


def _peak_kib() -> float:
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # unlike ru_maxrss, not that of the process that started this one
        return float(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else peak


if __name__ == "__main__":
    _main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
