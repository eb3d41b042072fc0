"""Scripts of languages (Unicode's likely subtags, by langcodes) and of letters (fontTools)."""

import functools
from collections.abc import Sequence

import numpy as np
from fontTools import unicodedata as characters

from automoe_jax.data.formats.files import optional
from automoe_jax.errors import UserError

# ISO 15924 codes of writing systems that consist of several scripts, or are one by another name.
_PARTS = {
    "Hans": {"Hani"},
    "Hant": {"Hani"},
    "Jpan": {"Hani", "Hira", "Kana"},
    "Kore": {"Hang", "Hani"},
}
_OF_ALL = ("Zyyy", "Zinh", "Zzzz")  # common, inherited and unknown
_OWN, _OTHER = "o", "x"


def of_language(language: str, side: str) -> frozenset[str]:
    """The scripts that a language is usually written in, as codes of ISO 15924.

    Raises `UserError` for what is no language, with the setting of `side`.
    """
    langcodes = optional("langcodes", "config.data.cleaning.min_script_share", "langcodes")
    try:
        script = langcodes.Language.get(language).maximize().script
    except ValueError:
        script = None
    if not language or not script:
        raise UserError(
            f"config.data.{side}_language={language!r} has no known script; name its scripts in"
            f" config.data.cleaning.{side}_scripts, as in 'Latn'"
        )
    return frozenset(_PARTS.get(script, {script}))


def named(codes: str, side: str) -> frozenset[str]:
    """The scripts that a setting lists between commas; raises `UserError` for an unknown one."""
    found: set[str] = set()
    for code in (part.strip() for part in codes.split(",")):
        if code not in characters.Scripts.NAMES and code not in _PARTS:
            raise UserError(
                f"config.data.cleaning.{side}_scripts={codes!r} must list codes of scripts (ISO"
                f" 15924) such as 'Latn,Cyrl', and {code!r} is none"
            )
        found |= _PARTS.get(code, {code})
    return frozenset(found)


def share_in(lines: Sequence[str], scripts: frozenset[str]) -> np.ndarray:
    """[N] share of the letters of each line that are in `scripts`; 1 for a line without letters."""
    table = _Table(scripts)
    shares = np.ones(len(lines))
    for i, line in enumerate(lines):
        letters = line.translate(table)
        if letters:
            shares[i] = letters.count(_OWN) / len(letters)
    return shares


class _Table(dict[int, str | None]):
    """Table for `str.translate`, filled with the characters that occur: a letter becomes the sign
    of its own scripts or of others, and everything else vanishes.
    """

    def __init__(self, scripts: frozenset[str]):
        super().__init__()
        self._scripts = scripts

    def __missing__(self, code: int) -> str | None:
        script = _script(code)
        letter = chr(code).isalpha() and script not in _OF_ALL
        self[code] = (_OWN if script in self._scripts else _OTHER) if letter else None
        return self[code]


@functools.cache
def _script(code: int) -> str:
    return characters.script(chr(code))
