"""Flags: argparse with errors of the class `UserError`, and a suggestion for a misspelt flag."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from automoe_jax.errors import UserError

_TRUE, _FALSE = ("true", "t", "1", "yes"), ("false", "f", "0", "no")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are of the class `UserError`."""

    def __init__(self, module: str, description: str, **options: Any) -> None:
        """`module` is what `python -m` runs."""
        super().__init__(
            prog=f"python -m {module}", description=description, allow_abbrev=False, **options
        )
        self.switches: list[str] = []

    def add_switch(self, name: str, help: str) -> None:
        """Adds --NAME, which is also understood as --NAME=true, --NAME=false and --noNAME."""
        self.add_argument(f"--{name}", action="store_true", help=help)
        self.add_argument(f"--no{name}", dest=name, action="store_false", help=argparse.SUPPRESS)
        self.switches.append(name)

    def parse(self, words: Sequence[str] | None = None) -> argparse.Namespace:
        """Values of the flags in `words`, or in this process's command line; raises `UserError` for
        what is not a flag or is left over.
        """
        words = sys.argv[1:] if words is None else words
        if not {"-h", "--help"} & set(words):
            self._check_names(words)
        values, extras = self.parse_known_args([self._switch(word) for word in words])
        for word in extras:
            raise UserError(self._not_understood(word))
        return values

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")

    def _switch(self, word: str) -> str:
        """--NAME=true as --NAME, --NAME=false as --noNAME."""
        name, equals, value = word.removeprefix("--").partition("=")
        if not equals or not word.startswith("--") or name not in self.switches:
            return word
        return f"--{name}" if truth(f"--{name}", value) else f"--no{name}"

    def _check_names(self, words: Sequence[str]) -> None:
        """Raises `UserError` for an unknown --NAME, before argparse reports the required flag that
        it was meant to be.
        """
        for word in words:
            if word.startswith("--") and word.partition("=")[0] not in self._option_string_actions:
                raise UserError(self._not_understood(word))

    def _not_understood(self, word: str) -> str:
        if not word.startswith("-"):
            return (
                f"{word!r} is left over; the value of a flag follows an equals sign, as in"
                " --flag=value"
            )
        name = word.partition("=")[0]
        known = [flag for flag in self._option_string_actions if not flag.startswith("--no")]
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        meant = f"; did you mean {close[0]}?" if close else ""
        return f"unrecognized arguments: {name}{meant}; see --help"


def truth(name: str, text: str) -> bool:
    """The value of a flag that is true or false; raises `UserError` for any other text."""
    if text.lower() not in _TRUE + _FALSE:
        raise UserError(f"{name}={text} must be true or false")
    return text.lower() in _TRUE
