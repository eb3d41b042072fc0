"""The exception for a user's mistake: its message is one sentence.

`command.run` prints the message and exits with code 1; a bug is shown with its traceback.
"""

import difflib
import itertools
import numbers
from collections.abc import Iterable, Sequence
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
