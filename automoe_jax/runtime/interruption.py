"""Signals that ask a run to stop: Ctrl-C, SIGTERM and a closed terminal end training and the search
where nothing is lost.
"""

import contextlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from automoe_jax.command.run import INTERRUPTED, exit_code
from automoe_jax.runtime.processes import largest

_AGAIN_SECONDS = 0.05
_NAMES = {
    int(signal.SIGINT): "Ctrl-C",
    int(signal.SIGTERM): "SIGTERM",
    int(signal.SIGHUP): "SIGHUP",
}


class Interrupted(Exception):
    """A signal ended the run; the message names the saved state."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code(number)


def stopped(number: int, where: str) -> Interrupted:
    """The exception for a run that a signal of this number stopped after `where`, with everything
    saved.
    """
    return Interrupted(
        f"stopped by {_NAMES[number]} after {where}; run the same command again to resume", number
    )


@contextlib.contextmanager
def stop_requests(unit: str) -> Iterator[Callable[[], int]]:
    """requested(): the number of the signal that asked any process to stop while the block runs, 0
    for none; all processes must call it.

    `unit` names what is finished before the run stops, for the line that answers the first Ctrl-C.
    A second Ctrl-C ends the process at once, even while it compiles. A signal that the block has
    not acted upon takes its usual effect at the end of the block. In another thread than the main
    one, which alone receives signals, nothing is ever requested.
    """
    arrived: list[int] = []
    acted = False

    def note(number: int, _: FrameType | None) -> None:
        arrived.append(number)
        if number == signal.SIGHUP:
            _leave_terminal()

    def requested() -> int:
        nonlocal acted
        number = largest(arrived[0] if arrived else 0)
        acted = acted or number > 0
        return number

    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    with handled(note), _second_ctrl_c_ends(unit):
        yield requested
    if arrived and not acted:
        signal.raise_signal(arrived[0])


@contextlib.contextmanager
def ctrl_c_gets_through() -> Iterator[None]:
    """Raises a Ctrl-C again that Python has dropped: where it arrives in a callback, such as the
    garbage collector's, Python only prints the traceback of the `KeyboardInterrupt`.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # From here it would be dropped in the same way.
            threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def ignore_abandoned_work() -> None:
    """For a process that ends after a Ctrl-C: reads that go on in the background fail as it ends,
    and Python would print their tracebacks.
    """
    sys.unraisablehook = lambda _: None


@contextlib.contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Delays a Ctrl-C to the end of the block, which imports.

    Python kills itself with the signal at its end, whatever the exit code, once a
    `KeyboardInterrupt` has passed through code that an extension module runs while it is imported.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pending: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pending:
        os.kill(os.getpid(), signal.SIGINT)


@contextlib.contextmanager
def handled(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Installs the handler of the signals, except for those that this process is to ignore, as
    background jobs of a shell ignore SIGINT and `nohup` ignores SIGHUP.
    """
    before = {number: signal.getsignal(number) for number in _NAMES}
    try:
        for number, usual in before.items():
            if usual != signal.SIG_IGN:
                signal.signal(number, handle)
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


@contextlib.contextmanager
def _second_ctrl_c_ends(unit: str) -> Iterator[None]:
    """Answers the first Ctrl-C with a line; the second one ends the process.

    Python calls a signal's handler only between two of its own instructions, which may be minutes
    later while XLA compiles. The signal's number is written to a pipe at once, where a thread waits
    for it.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = threading.Thread(target=_answer, args=(reader, unit), daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join()
        os.close(reader)


def _answer(reader: int, unit: str) -> None:
    """Reads the numbers of signals from a pipe until it is closed."""
    pressed = 0
    while number := os.read(reader, 1):
        pressed += number[0] == signal.SIGINT
        if number[0] == signal.SIGINT and pressed == 1:
            _say(f"stopping when this {unit} is done and saved; Ctrl-C again ends at once")
        elif number[0] == signal.SIGINT:
            _say(
                "ended at once by a second Ctrl-C; run the same command again, it continues from"
                " what was saved last"
            )
            os._exit(INTERRUPTED)


def _leave_terminal() -> None:
    """Sends what would be written to a terminal to nowhere: once it is closed, writing fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _say(line: str) -> None:
    """Writes a line to stderr from another thread than the main one, below a progress bar."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{line}\n".encode())
