"""All stages by two processes of four simulated devices each: the same result as one process of
eight, after any kill.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
SMALL = pathlib.Path(__file__).with_name("small.py")
SUPERNET = "--config.stages=prepare,supernet"
pytestmark = pytest.mark.slow


def start(workdir: pathlib.Path, devices: int, *flags: str) -> subprocess.Popen[str]:
    flags = (f"--config={SMALL}", f"--workdir={workdir}", *flags)
    settings = {
        "XLA_FLAGS": (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        ),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-m", "automoe_jax.main", *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | settings, stdout=pipe, stderr=pipe, text=True
    )


def start_two(
    workdir: pathlib.Path, *flags: str, second: tuple[str, ...] = ()
) -> list[subprocess.Popen[str]]:
    """Starts both with these flags, the second with additional ones."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    more = ((), second)
    return [
        start(
            workdir,
            4,
            f"--coordinator={address}",
            "--processes=2",
            f"--process={i}",
            *flags,
            *more[i],
        )
        for i in (0, 1)
    ]


def end(processes: list[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    """Exit codes and stderr."""
    said = [process.communicate(timeout=600)[1] for process in processes]
    return [process.returncode for process in processes], said


def saved(workdir: pathlib.Path) -> list[int]:
    """Updates after which the SuperNet has a checkpoint."""
    return sorted(
        int(path.name)
        for path in (workdir / "supernet" / "checkpoints").glob("*")
        if path.name.isdigit()
    )


def wait_for_a_checkpoint(workdir: pathlib.Path, processes: list[subprocess.Popen[str]]) -> None:
    while not saved(workdir) and all(process.poll() is None for process in processes):
        time.sleep(0.02)


def assert_same_training(found: pathlib.Path, expected: pathlib.Path) -> None:
    """The same text in the same order, and the same losses up to rounding."""
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (found, expected)]
    assert summaries[0]["tokens"] == summaries[1]["tokens"]
    np.testing.assert_allclose(
        summaries[0]["validation_nll"], summaries[1]["validation_nll"], rtol=1e-4
    )
    losses = []
    for folder in (found, expected):
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append(
            {
                record["step"]: record["validation_nll"]
                for record in records
                if "validation_nll" in record
            }
        )
    assert losses[0].keys() >= losses[1].keys()  # the stop adds one more
    np.testing.assert_allclose(
        [losses[0][step] for step in losses[1]], list(losses[1].values()), rtol=1e-4
    )


def candidates(workdir: pathlib.Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (workdir / "search" / "candidates.jsonl").read_text().splitlines()
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of one process with eight devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    codes, said = end([start(workdir, 8)])
    assert codes == [0], said[0]
    return workdir


def test_killed_and_started_again_two_end_as_one(
    alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    processes = start_two(tmp_path)
    wait_for_a_checkpoint(tmp_path, processes)
    processes[1].send_signal(signal.SIGKILL)
    codes, said = end(processes)
    assert codes == [1, -signal.SIGKILL], said
    assert (
        said[0]
        .splitlines()[-1]
        .startswith("error: another process of this run has ended or cannot be reached")
    ), said[0]
    assert "Traceback" not in said[0]
    assert not (tmp_path / "supernet" / "summary.json").exists(), "it was to be killed in training"

    codes, said = end(start_two(tmp_path))
    assert codes == [0, 0], said
    assert_same_training(tmp_path / "supernet", alone / "supernet")
    assert_same_training(
        tmp_path / "retrain" / "subtransformer", alone / "retrain" / "subtransformer"
    )
    assert (tmp_path / "arch.json").read_text() == (alone / "arch.json").read_text()
    ours, theirs = candidates(tmp_path), candidates(alone)
    assert [one.pop("arch") for one in ours] == [one.pop("arch") for one in theirs]
    np.testing.assert_allclose(
        [one["loss"] for one in ours], [one["loss"] for one in theirs], rtol=1e-4
    )
    assert (tmp_path / "report.html").exists()


def test_sigterm_to_one_stops_both_after_the_same_update_and_one_goes_on_alone(
    alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    processes = start_two(tmp_path, SUPERNET)
    wait_for_a_checkpoint(tmp_path, processes)
    processes[1].send_signal(signal.SIGTERM)
    codes, said = end(processes)
    assert codes == [143, 143], said
    last = [line.splitlines()[-1] for line in said]
    assert (
        last[0]
        == last[1]
        == f"stopped by SIGTERM after update {saved(tmp_path)[-1]}, which is saved; run the same"
        " command again to resume"
    )

    codes, said = end([start(tmp_path, 8, SUPERNET)])
    assert codes == [0], said[0]
    assert_same_training(tmp_path / "supernet", alone / "supernet")


def test_processes_with_other_settings_say_so(tmp_path: pathlib.Path) -> None:
    codes, said = end(start_two(tmp_path, second=("--config.seed=7",)))
    assert codes == [1, 1], said
    for lines in said:
        assert (
            lines.splitlines()[-1]
            == "error: the processes have different configurations: seed is 0 in process 0 and 7 in"
            " process 1; start all of them with the same flags"
        )
    assert not (tmp_path / "config.json").exists()
