"""Runs a command: exit codes, and one line on stderr for everything that is not a bug."""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from automoe_jax.errors import UserError

FAILED = 1


def exit_code(number: int) -> int:
    """The exit code of a process that a signal of this number ended, as a shell reports it."""
    return 128 + number


INTERRUPTED = exit_code(signal.SIGINT)
BROKEN_PIPE = exit_code(signal.SIGPIPE)


class _Output(io.TextIOWrapper):
    """A standard stream that remembers its first failure, and raises it unless it is `optional`."""

    failure: OSError | None = None
    optional = False
    replaced: TextIO | None = None  # kept alive: its end would close the buffer that both write to

    def write(self, text: str, /) -> int:
        with self._noted():
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with self._noted():
            super().flush()

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            if not self.optional:
                raise


def run_for_people(main: Callable[[], int | None], *, resumes: bool = False) -> int:
    """Runs `main` and returns the exit code; a user's mistake, an interruption, a full disk or an
    output that cannot be written becomes one line on stderr.

    `resumes`: the command stores its results in files and, when it runs again, continues from
    them. Other commands are run for what they print.
    """
    closed = sys.stdout is None
    _prepare_streams()
    again = "; run the same command again, it resumes from what is stored" if resumes else ""
    code = FAILED
    try:
        if closed and not resumes:
            raise UserError("standard output is closed; redirect it to a file, or to /dev/null")
        return _finished(main)
    except UserError as error:
        message = str(error)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "automoe_jax"):
            raise
        message = f"the Python package {missing} is not installed; install it with pip"
    except KeyboardInterrupt:
        message, code = f"interrupted{again}", INTERRUPTED
    except Exception as error:
        failure = getattr(sys.stdout, "failure", None)
        if isinstance(failure, BrokenPipeError):
            message, code = f"the output is no longer read{again}", BROKEN_PIPE
        elif failure:
            message = f"standard output cannot be written: {failure.strerror}{again}"
        elif _disk_is_full(error):
            file = getattr(error, "filename", None)
            where = f" while writing {file}" if file else ""
            message = f"the disk is full{where}; free some space and run the same command again"
            message += ", it resumes from what is stored" if resumes else ""
        else:
            raise
    if code != BROKEN_PIPE or resumes:  # `command | head` is not a mistake
        print(f"error: {message}", file=sys.stderr, flush=True)
    _end_output()
    return code


def _finished(main: Callable[[], int | None]) -> int:
    """The exit code of `main`, after all its output was written."""
    try:
        code = main() or 0
    except SystemExit as ended:  # of argparse, after --help
        code = ended.code if isinstance(ended.code, int) else 0
    sys.stdout.flush()
    if failure := getattr(sys.stdout, "failure", None):  # argparse drops it
        raise failure
    return code


def _prepare_streams() -> None:
    """Makes output UTF-8 in every locale, and replaces closed streams, so that no file is opened
    under their numbers. A closed `sys.stdin` remains None.

    Messages and progress bars are optional: a command continues where they cannot be written.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            _occupy(descriptor)
        if name != "stdin" and stream is getattr(sys, f"__{name}__"):
            output = _output(stream)
            output.optional = name == "stderr"
            setattr(sys, name, output)
            setattr(sys, f"__{name}__", output)


def _output(stream: TextIO | None) -> _Output:
    """The stream in UTF-8; one that writes to nowhere for a closed stream."""
    if not isinstance(stream, io.TextIOWrapper):
        return _Output(open(os.devnull, "wb"), encoding="utf-8")
    stream.flush()
    output = _Output(
        stream.buffer,
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    output.replaced = stream
    return output


def _occupy(descriptor: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    if opened != descriptor:
        os.close(opened)


def _end_output() -> None:
    """Writes the rest of the buffer of stdout, or drops it, so that Python does not report
    another error when it ends.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _disk_is_full(error: BaseException) -> bool:
    """Whether no space is left, according to the system's error or to a library's message."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return os.strerror(errno.ENOSPC) in str(error) or os.strerror(errno.EDQUOT) in str(error)
