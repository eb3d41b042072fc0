"""launch/local.sh with real, short processes: a stand-in replaces Python."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
pytestmark = pytest.mark.skipif(not LAUNCH.is_dir(), reason="a wheel holds no launch scripts")

STAND_IN = f"""#!{sys.executable} -S
import signal, sys, time
number = int(sys.argv[-1].removeprefix("--process="))

def on_sigterm(*_):
    print("saved", flush=True)
    sys.exit(143)
"""


@pytest.fixture
def start(tmp_path: pathlib.Path):
    """Starts local.sh over two processes that run `code`, which knows its `number`."""
    started = []

    def start(code: str, **settings: str) -> subprocess.Popen[str]:
        stand_in = tmp_path / "python"
        stand_in.write_text(STAND_IN + code)
        stand_in.chmod(0o755)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHON": str(stand_in),
            "CONFIG": "a.py",
            "WORKDIR": "runs/a",
            **settings,
        }
        pipe = subprocess.PIPE
        command = ["bash", LAUNCH / "local.sh"]
        options = {
            "env": environment,
            "stdout": pipe,
            "stderr": pipe,
            "text": True,
            "start_new_session": True,
        }
        # Tests in the background may ignore SIGINT, which a shell then cannot trap.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            started.append(subprocess.Popen(command, **options))
        finally:
            signal.signal(signal.SIGINT, handler)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """Exit code, lines of output in order, and messages of local.sh."""
    out, err = process.communicate(timeout=15)
    return (
        process.returncode,
        sorted(out.splitlines()),
        "".join(line + "\n" for line in err.splitlines() if not line.startswith("+ ")),
    )


def wait_for(path: pathlib.Path) -> None:
    for _ in range(100):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


def test_lines_carry_the_number(start) -> None:
    code, out, said = end(
        start("print('one'); print('a bar\\r50 %\\r100 %'); print('no end', end='')")
    )
    assert code == 0
    assert out == ["[0] 100 %", "[0] no end", "[0] one", "[1] 100 %", "[1] no end", "[1] one"]
    assert said == ""


def test_one_that_dies_stops_the_other(start) -> None:
    code, out, said = end(
        start(
            "signal.signal(signal.SIGTERM, on_sigterm)\nif number == 1: sys.exit(3)\ntime.sleep(30)"
        )
    )
    assert code == 3
    assert said == "launch/local.sh: process 1 ended with exit code 3; stopping the others\n"
    assert out in ([], ["[0] saved"])  # [] if it was stopped before it took SIGTERM


def test_one_that_is_finished_stops_no_other(start) -> None:
    code, out, said = end(start("time.sleep(0.4 * number); print('done')"))
    assert (code, out, said) == (0, ["[0] done", "[1] done"], "")


def test_one_that_does_not_stop_is_killed(start, tmp_path: pathlib.Path) -> None:
    ready = tmp_path / "ready"
    code, _, said = end(
        start(
            f"import pathlib\nready = pathlib.Path({str(ready)!r})\nif number == 0:\n   "
            " signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    ready.touch()\n   "
            " time.sleep(30)\nwhile not ready.exists(): time.sleep(0.01)\nsys.exit(4)",
            GRACE="1",
        )
    )
    assert code == 4
    assert "process 0 did not stop within 1 seconds; killing" in said


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_signals_reach_every_process(start, tmp_path: pathlib.Path, name: str) -> None:
    process = start(
        f"import pathlib\nsignal.signal(signal.SIG{name},"
        f" on_sigterm)\npathlib.Path({str(tmp_path)!r}, str(number)).touch()\ntime.sleep(30)"
    )
    wait_for(tmp_path / "0")
    wait_for(tmp_path / "1")
    os.killpg(process.pid, getattr(signal, f"SIG{name}"))  # as a terminal does for Ctrl-C
    code, out, said = end(process)
    assert code == 143
    assert out == ["[0] saved", "[1] saved"]
    assert f"launch/local.sh: got SIG{name} and passes it on to every process\n" in said
