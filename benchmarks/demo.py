"""Waiting times of `make demo`: the first update after a start, and the search's time outside
compiled code.

    make demo && python -m benchmarks.demo --workdir=runs/demo --json=demo.json

The workdir must hold a finished demo. Its data and compilation cache are read; nothing in it
changes.
"""

import argparse
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from automoe_jax.errors import UserError
from automoe_jax.names import CONFIG_FILE
from benchmarks.harness import Row, parser, run

_CONFIG = "configs/demo.py"
_COPIED = (CONFIG_FILE, "data", "stages/prepare.json", "compilation_cache")


def measure(flags: argparse.Namespace) -> list[Row]:
    """Times a start and a search of the demo."""
    done = Path(flags.workdir)
    if not (done / "stages" / "report.json").exists():
        raise UserError(f"--workdir={done} holds no finished demo; run make demo first")
    seconds, update = _first_update(done)
    share, total = _search_outside(done)
    return [
        Row(
            "First update of `make demo` after its start, with a warm compilation cache (the time"
            " until 20 updates are logged, less that of 19 later ones)",
            {"seconds": f"{seconds:.1f}", "seconds of a later update": f"{update:.2f}"},
            "≤ 10 s",
            seconds <= 10,
            {"seconds": seconds},
        ),
        Row(
            "Search of `make demo`: time outside compiled code",
            {"share": f"{share:.0%}", "seconds of the search": f"{total:.0f}"},
            "≤ 10%",
            share <= 0.1,
            {"share": share, "seconds": total},
        ),
    ]


def _copy(done: Path, parts: tuple[str, ...], to: Path) -> None:
    for part in parts:
        (to / part).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (done / part).is_dir() else shutil.copy)(done / part, to / part)


def _first_update(done: Path) -> tuple[float, float]:
    """Seconds from the start of the process to the first update, and seconds of a later one."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "demo"
        _copy(done, _COPIED, workdir)
        command = [
            sys.executable,
            "-m",
            "automoe_jax.main",
            f"--config={_CONFIG}",
            f"--workdir={workdir}",
            "--config.stages=supernet",
        ]
        started = time.time()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        metrics = workdir / "supernet" / "metrics.jsonl"
        try:
            first = _wait_for(metrics, 1, process) - started
            _wait_for(metrics, 2, process)
        finally:
            process.terminate()
            process.wait()
        records = _records(metrics)
        if len(records) < 2:
            raise UserError(
                "the SuperNet of the demo did not start; run the command by hand: "
                + " ".join(command)
            )
    update = records[1]["seconds"] / (records[1]["step"] - records[0]["step"])
    return first - update * (records[0]["step"] - 1), update


def _wait_for(metrics: Path, count: int, process: subprocess.Popen) -> float:
    """Time at which the file has `count` records of updates or the process has ended."""
    while process.poll() is None and len(_records(metrics)) < count:
        time.sleep(0.05)
    return time.time()


def _records(path: Path) -> list[dict]:
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n") and '"seconds"' in line]


def _search_outside(done: Path) -> tuple[float, float]:
    """Share of the search's time that is not spent waiting for compiled code, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "demo"
        _copy(done, (*_COPIED, "supernet", "stages/supernet.json"), workdir)
        script = (
            "import cProfile, runpy, sys; sys.argv = sys.argv[1:]\n"
            "from automoe_jax.stages import search\n"
            "profile, run = cProfile.Profile(), search.run\n"
            "def profiled(*args):\n"
            "    profile.runcall(run, *args)\n"
            f"    profile.dump_stats({str(workdir / 'profile')!r})\n"
            "search.run = profiled\n"
            "runpy.run_module('automoe_jax.main', run_name='__main__')\n"
        )
        command = [
            sys.executable,
            "-c",
            script,
            "main",
            f"--config={_CONFIG}",
            f"--workdir={workdir}",
            "--config.stages=search",
        ]
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ,
        )
        stats = pstats.Stats(str(workdir / "profile"))
    return _outside(stats)


def _outside(stats: pstats.Stats) -> tuple[float, float]:
    """Share and seconds of `evolve` without `nll`, which dispatches to compiled code, and without
    `device_get`, which waits for it.
    """
    cumulative = {function[2]: entry[3] for function, entry in stats.stats.items()}  # type: ignore[attr-defined]
    total, inside = cumulative["evolve"], cumulative["nll"] + cumulative["device_get"]
    return (total - inside) / total, total


if __name__ == "__main__":
    arguments = parser("benchmarks.demo", __doc__)
    arguments.add_argument("--workdir", default="runs/demo", help="a finished demo")
    run(measure, arguments)
