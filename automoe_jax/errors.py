"""The exception for a user's mistake: its message is one sentence.

Command lines print the message and exit with code 1; a bug keeps its traceback.
"""

import difflib
import errno
import itertools
import numbers
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any


class UserError(ValueError):
    """Names the field, the value, the rule it breaks and the way out, in one sentence."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The text "; did you mean …?" with the closest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_whole(least: int = 1, **values: Any) -> None:
    """Raises `UserError` for the first of these arguments, by name, that is not a whole number
    of at least `least`.
    """
    for name, value in values.items():
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value < least:
            raise UserError(f"{name}={value!r} must be a whole number of at least {least}")


def check_rising(name: str, values: Sequence[int]) -> None:
    """Raises `UserError` unless these are whole numbers of at least 1, each larger than the one
    before.
    """
    check_whole(**{f"{name}[{i}]": value for i, value in enumerate(values)})
    if not values or any(a >= b for a, b in itertools.pairwise(values)):
        raise UserError(f"{name}={tuple(values)} must be rising numbers, at least one")


def run_for_people(main: Callable[[], int | None]) -> int:
    """Runs `main` and returns the exit code; a user's mistake or a full disk becomes one line on
    stderr.
    """
    try:
        return main() or 0
    except UserError as error:
        message = str(error)
    except KeyboardInterrupt:
        message = "interrupted; run the same command again, it continues where it stopped"
    except Exception as error:
        if not _disk_is_full(error):
            raise
        file = getattr(error, "filename", None)
        where = f" while writing {file}" if file else ""
        message = (
            f"the disk is full{where}; free some space and run the same command again, it continues"
            " where it stopped"
        )
    print(f"error: {message}", file=sys.stderr)
    return 1


def _disk_is_full(error: BaseException) -> bool:
    """Whether no space is left, according to the system's error or to a library's message."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return os.strerror(errno.ENOSPC) in str(error) or os.strerror(errno.EDQUOT) in str(error)
