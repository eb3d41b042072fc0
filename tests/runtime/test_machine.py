"""Where a result was computed."""

import os
import pathlib
import subprocess
import sys

import pytest

PRINT = "from automoe_jax.runtime.machine import device; print(device())"
CPUINFO = pathlib.Path("/proc/cpuinfo")
CORES = CPUINFO.read_text().count("model name") if CPUINFO.exists() else 0


@pytest.mark.skipif(CORES < 2, reason="no Linux that names two cores")
def test_a_process_that_may_not_use_all_cores_says_so() -> None:
    usable = os.sched_getaffinity(0)

    def said(allowed: set[int]) -> str:
        command = [sys.executable, "-c", PRINT]
        os.sched_setaffinity(0, allowed)  # a child inherits it
        try:
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout
        finally:
            os.sched_setaffinity(0, usable)

    assert said({min(usable)}).endswith(f", 1 of {CORES} cores\n")
    if len(usable) == CORES:
        assert said(usable).endswith(f", {CORES} cores\n")
