"""Flags of several processes, and messages when they cannot connect."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest

from automoe_jax.errors import UserError
from automoe_jax.runtime.processes import Membership, is_first, membership, wait_for_all

ROOT = pathlib.Path(__file__).parents[2]
SOON = "p.HEARTBEAT_SECONDS = p.END_SECONDS = 5"


def start(code: str) -> subprocess.Popen[str]:
    preamble = (
        "import sys, automoe_jax.runtime.processes as p; from automoe_jax.command.run import"
        " run_for_people; "
    )
    command = [sys.executable, "-u", "-c", preamble + code]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


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
def test_flags_that_do_not_fit(
    flags: tuple[str | None, int | None, int | None], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        membership(False, *flags)


@pytest.mark.parametrize("process", [0, 1])
def test_processes_that_do_not_meet_say_so_in_time(address: str, process: int) -> None:
    alone = start(f"p.JOIN_SECONDS = 2; p.join(p.Membership('{address}', 2, {process}))")
    _, said = alone.communicate(timeout=60)
    assert alone.returncode == 1
    message = (
        f"error: 2 processes have not met at --coordinator={address} within 2 s; see that each of"
        " them runs"
    )
    assert message in said
    assert "Traceback" not in said


def test_nothing_to_detect_is_a_sentence() -> None:
    alone = start("sys.exit(run_for_people(lambda: p.join(p.Membership())))")
    _, said = alone.communicate(timeout=60)
    assert alone.returncode == 1
    assert said.startswith("error: the processes cannot meet: ")
    assert len(said.splitlines()) == 1


def two(address: str, code: str) -> tuple[list[int], list[str], list[str]]:
    """Exit codes, output and errors of two connected processes that run `code` with `number`."""
    pair = [
        start(f"number = {i}; {SOON}; p.join(p.Membership('{address}', 2, {i}))\n{code}")
        for i in (0, 1)
    ]
    out, errors = zip(*(process.communicate(timeout=100) for process in pair), strict=True)
    return [process.returncode for process in pair], list(out), list(errors)


def test_two_processes_meet_and_talk(address: str) -> None:
    code = (
        "p.wait_for_all('here'); print(p.is_first(), p.gathered('ä' * number), p.any_process(number"
        " == 1), p.any_process(False))"
    )
    codes, out, errors = two(address, code)
    assert codes == [0, 0], errors
    assert [lines.splitlines()[-1] for lines in out] == [
        "True ['', 'ä'] True False",
        "False ['', 'ä'] True False",
    ]


def test_a_mistake_of_the_first_is_everyones(address: str) -> None:
    code = """
def work():
    print("works")
    raise p.UserError("the text is missing; write one")
p.leave(run_for_people(lambda: p.first_alone(work)))
"""
    codes, out, errors = two(address, code)
    assert codes == [1, 1]
    assert ["works" in lines for lines in out] == [True, False]
    assert [lines.splitlines()[-1] for lines in errors] == [
        "error: the text is missing; write one"
    ] * 2


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_killed_ends_the_other(address: str, lost: int) -> None:
    """The other computes alone, so only the runtime can detect it."""
    code = (
        f"import os, time; p.wait_for_all('here')\nif number == {lost}: os.kill(os.getpid(),"
        " 9)\ntime.sleep(60)"
    )
    codes, _, errors = two(address, code)
    assert codes[lost] == -9
    assert codes[1 - lost] == 1
    assert (
        errors[1 - lost]
        .splitlines()[-1]
        .startswith("error: another process of this run has ended or cannot be reached; see what")
    )


def test_a_collective_operation_without_the_other_is_a_sentence(address: str) -> None:
    code = """
import os
def work():
    with p.explaining_loss():
        p.wait_for_all("here")
        if number == 1: os._exit(9)
        p.wait_for_all("there")
p.leave(run_for_people(work))
"""
    codes, _, errors = two(address, code)
    assert codes == [1, 9]
    assert (
        errors[0]
        .splitlines()[-1]
        .startswith("error: another process of this run has ended or cannot be reached; see what")
    )
    assert "Traceback" not in errors[0]


def test_a_mistake_in_one_alone_ends_the_other_in_time(address: str) -> None:
    code = """
import time
def work():
    p.wait_for_all("here")
    if number == 1: raise p.UserError("only here")
    time.sleep(60)
p.leave(run_for_people(work))
"""
    codes, _, errors = two(address, code)
    assert codes == [1, 1]
    assert errors[1].splitlines()[-1] == "error: only here"
    assert (
        errors[0]
        .splitlines()[-1]
        .startswith("error: another process of this run has ended or cannot be reached; see what")
    )
