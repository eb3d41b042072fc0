"""The command on a device: collect, killed and continued, then fit, search and check."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.stages.test_pipeline import TINY, command, environment, run

SHORT = (
    "--config.search.source_length=6",
    "--config.search.target_length=6",
    "--config.search.device.architectures=16",
    "--config.search.device.error=0.0001",
)


def latency(*words: str) -> list[str]:
    return [sys.executable, "-m", "automoe_jax.latency", *words]


@pytest.mark.slow
def test_collect_killed_then_fit_search_and_check(tmp_path: pathlib.Path) -> None:
    out, config = tmp_path / "device.jsonl", f"--config={TINY}"
    collect = latency("collect", config, f"--out={out}", *SHORT)
    process = subprocess.Popen(collect, env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out.exists() and out.read_text().count("\n") > 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = out.read_text().splitlines()
    assert 4 < len(killed) < 17
    ran = run(collect)
    assert ran.returncode == 0, ran.stderr.decode()
    assert out.read_text().splitlines()[: len(killed)] == killed
    assert b"16 architectures from " in ran.stdout

    fitted = run(latency("fit", f"--device={out}"))
    assert b"held-out error" in fitted.stdout

    workdir = tmp_path / "run"
    searched = run(
        command(
            workdir,
            *SHORT,
            "--config.search.max_latency_ms=1000",
            f"--config.search.device.file={out}",
            "--config.stages=prepare,supernet,search",
        )
    )
    assert searched.returncode == 0, searched.stderr.decode()
    assert not (workdir / "device.jsonl").exists(), "nothing is timed on the training machine"

    checked = run(
        latency("check", config, f"--archs={workdir / 'arch.json'}", f"--device={out}", *SHORT)
    )
    assert checked.returncode == 0, checked.stderr.decode()
    assert checked.stdout.startswith(b"measured ")
    assert b" predicted " in checked.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("colect",), "'colect' is not a command of automoe_jax.latency"),
        (("fit", "--device=nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("check", f"--config={TINY}", "--archs=nowhere.json"), "--archs=nowhere.json cannot be"),
        (("collect", f"--config={TINY}"), "--out"),
    ],
    ids=["command", "file", "archs", "flag"],
)
def test_a_mistake_is_one_sentence(
    words: tuple[str, ...], message: str, tmp_path: pathlib.Path
) -> None:
    ran = subprocess.run(
        latency(*words),
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr


def test_collecting_loads_no_jax(tmp_path: pathlib.Path) -> None:
    code = (
        "import sys; sys.modules['jax'] = None; sys.modules['flax'] = None;"
        "from automoe_jax.latency.__main__ import main;"
        f"main(['collect', '--config={TINY}', '--out={tmp_path / 'd'}', *{SHORT[:2]},"
        " '--config.search.device.architectures=12'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert len((tmp_path / "d").read_text().splitlines()) == 13
    assert json.loads((tmp_path / "d").read_text().splitlines()[0])["threads"] == 1
