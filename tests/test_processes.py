"""The flags of several processes, and what is said when they do not meet."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest

from automoe_jax.errors import UserError
from automoe_jax.processes import Membership, is_first, membership, wait_for_all

ROOT = pathlib.Path(__file__).parents[1]


def start(code: str) -> subprocess.Popen[str]:
    preamble = "import sys, automoe_jax.processes as p; from automoe_jax.errors import run_for_people; "
    command = [sys.executable, "-u", "-c", preamble + code]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_no_flags_no_processes() -> None:
    assert membership(False, None, None, None) is None
    assert membership(True, None, None, None) == Membership()
    assert membership(False, "host:1234", 2, 1) == Membership("host:1234", 2, 1)
    assert is_first()
    wait_for_all("alone")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("host:1", 2, None), "--coordinator=HOST:PORT, --processes=N and --process=I go together"),
        ((None, None, 0), "go together"),
        (("host", 2, 0), "--coordinator=host must be HOST:PORT"),
        (("host:1", 2, 2), "--process=2 must be at least 0 and less than --processes=2"),
    ],
)
def test_flags_that_do_not_fit(flags: tuple[str | None, int | None, int | None], message: str) -> None:
    with pytest.raises(UserError, match=message):
        membership(False, *flags)


@pytest.mark.parametrize("process", [0, 1])
def test_processes_that_do_not_meet_say_so_in_time(address: str, process: int) -> None:
    alone = start(f"p.JOIN_SECONDS = 2; p.join(p.Membership('{address}', 2, {process}))")
    _, said = alone.communicate(timeout=60)
    assert alone.returncode == 1
    message = f"error: 2 processes have not met at --coordinator={address} within 2 s; see that each of them runs"
    assert message in said
    assert "Traceback" not in said


def test_nothing_to_detect_is_a_sentence() -> None:
    alone = start("sys.exit(run_for_people(lambda: p.join(p.Membership())))")
    _, said = alone.communicate(timeout=60)
    assert alone.returncode == 1
    assert said.startswith("error: the processes cannot meet: ")
    assert len(said.splitlines()) == 1


def test_two_processes_meet(address: str) -> None:
    pair = [
        start(f"p.join(p.Membership('{address}', 2, {number})); p.wait_for_all('here'); print('first:', p.is_first())") for number in (0, 1)
    ]
    said = [process.communicate(timeout=100) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said
    assert [f"first: {number == 0}" in out for number, (out, _) in enumerate(said)] == [True, True]
