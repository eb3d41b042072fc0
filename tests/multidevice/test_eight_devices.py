"""Runs `eight_devices.py` where JAX starts with eight simulated devices."""

import os
import pathlib
import subprocess
import sys

import pytest

INSIDE = pathlib.Path(__file__).with_name("eight_devices.py")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["SuperNet", "not SuperNet"])
def test_on_eight_simulated_devices(part: str) -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-k",
        part,
        str(INSIDE),
    ]
    ended = subprocess.run(
        command,
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
