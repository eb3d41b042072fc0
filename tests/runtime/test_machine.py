"""Where a result was computed."""

import os
import subprocess
import sys

import pytest

PRINT = "from automoe_jax.runtime.machine import device; print(device())"
NEEDED = "sched_setaffinity"


@pytest.mark.skipif(
    not hasattr(os, NEEDED) or not os.path.exists("/proc/cpuinfo"), reason="no Linux"
)
def test_a_process_that_may_not_use_all_cores_says_so() -> None:
    usable, cores = os.sched_getaffinity(0), os.cpu_count()

    def said(allowed: set[int]) -> str:
        command = [sys.executable, "-c", PRINT]
        os.sched_setaffinity(0, allowed)  # a child inherits it
        try:
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout
        finally:
            os.sched_setaffinity(0, usable)

    one = said({min(usable)})
    assert one.endswith(f", 1 of {cores} cores\n" if cores > 1 else ", 1 cores\n")
    if len(usable) == cores:
        assert said(usable).endswith(f", {cores} cores\n")
