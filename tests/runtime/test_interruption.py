"""Requests to stop by signals, in this process or, if it ends, in a separate one."""

import os
import pathlib
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from automoe_jax.runtime.interruption import (
    ctrl_c_gets_through,
    ctrl_c_waits,
    stop_requests,
    stopped,
)


@pytest.mark.parametrize(
    ("number", "name", "code"),
    [
        (signal.SIGINT, "Ctrl-C", 130),
        (signal.SIGTERM, "SIGTERM", 143),
        (signal.SIGHUP, "SIGHUP", 129),
    ],
)
def test_a_signal_is_noted_and_named(number: int, name: str, code: int) -> None:
    before = signal.getsignal(number)
    with stop_requests("update") as requested:
        assert requested() == 0
        signal.raise_signal(number)
        assert requested() == number
    assert signal.getsignal(number) is before
    error = stopped(number, "update 3, which is saved")
    assert str(error).startswith(f"stopped by {name} after update 3, which is saved; run the same")
    assert error.exit_code == code


def test_a_signal_that_is_not_acted_upon_takes_its_usual_effect_later() -> None:
    reached = []

    def work() -> None:
        with stop_requests("update") as requested:
            assert requested() == 0
            signal.raise_signal(signal.SIGINT)
            reached.append("the end of the block")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests("update") as requested:
            signal.raise_signal(signal.SIGINT)
            assert requested() == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_ctrl_c_that_arrives_in_a_callback_is_not_lost(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Interrupting:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def work() -> None:
        with ctrl_c_gets_through():
            one = Interrupting()
            del one
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "Traceback" not in capfd.readouterr().err


def test_a_ctrl_c_in_an_import_comes_after_it() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done = []

    def work() -> None:
        with ctrl_c_waits():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_nothing_is_requested() -> None:
    found = []

    def work() -> None:
        with stop_requests("update") as requested:
            found.append(requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]


def test_a_closed_terminal_does_not_keep_a_run_from_saving(tmp_path: pathlib.Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "from automoe_jax.runtime.interruption import stop_requests\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "with stop_requests('update') as requested:\n"
        "    print('training', flush=True)\n"
        "    (folder / 'ready').touch()\n"
        "    while not requested():\n"
        "        time.sleep(0.05)\n"
        "    print('loss 1.0', file=sys.stderr, flush=True)\n"
        "    (folder / 'saved').touch()\n"
        "    print('stopped', flush=True)\n"
    )
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    os.close(terminal)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.close(main)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "saved").exists()


def test_the_first_ctrl_c_is_answered_and_the_second_ends_the_process_while_it_computes(
    tmp_path: pathlib.Path,
) -> None:
    code = (
        "import hashlib, pathlib, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from automoe_jax.runtime.interruption import stop_requests\n"
        "with stop_requests('update'):\n"
        f"    pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"  # minutes outside of Python
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stderr is not None
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    said = process.stderr.readline() + process.stderr.readline()
    assert b"stopping when this update is done and saved; Ctrl-C again ends at once" in said
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert b"ended at once by a second Ctrl-C" in process.stderr.read()
    process.stderr.close()


def test_work_that_an_interrupted_process_abandons_says_nothing() -> None:
    code = (
        "from automoe_jax.runtime.interruption import ignore_abandoned_work\n"
        "class Read:\n"
        "    def __del__(self):\n"
        "        raise RuntimeError('Event loop is closed')\n"
        "{}\n"
        "Read()\n"
    )
    loud, quiet = (
        subprocess.run(
            [sys.executable, "-c", code.format(line)], capture_output=True, text=True, check=True
        ).stderr
        for line in ("", "ignore_abandoned_work()")
    )
    assert "Event loop is closed" in loud
    assert not quiet
