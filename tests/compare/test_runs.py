"""A run in a separate process, which gets time to save after Ctrl-C."""

import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
CHILD = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(1)  # longer than subprocess.run waits before it kills
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import os, sys
from automoe_jax.command.run import run_for_people
from automoe_jax.compare.runs import finishes
command = [sys.executable, "-c", sys.argv[1], sys.argv[2]]
sys.exit(run_for_people(lambda: print(finishes(command, os.environ)), resumes=True))
"""


def test_a_run_saves_its_work_after_ctrl_c(tmp_path: pathlib.Path) -> None:
    # Background jobs of a shell ignore SIGINT, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, str(tmp_path / "file")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.startswith("error: interrupted; run the same command again, it resumes")
    assert (tmp_path / "file").read_text() == "saved"
