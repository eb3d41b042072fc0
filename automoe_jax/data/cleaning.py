"""Cleaning of a line of text, the same for training, evaluation and translation; the key that
near-duplicates share.

Removed are invisible characters: Unicode's default-ignorable code points (UAX #44), such as
byte-order marks, direction marks, zero-width spaces and soft hyphens. A joiner or a variation
selector remains where it shapes the characters around it, as in Persian, in the Indic scripts and
in emoji.
"""

import re
import unicodedata

# Control characters and line breaks (Cc, Zl, Zp), surrogates, noncharacters, the blanks that
# Unicode counts as letters or symbols, and SentencePiece's sign for a space.
_BLANKS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\u3164\uffa0\u2800\u2581]"
)
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
_JOINERS = "\u200c\u200d"
_SELECTORS = "\u034f\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_VIRAMAS = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca"
# A joiner next to a blank or to ASCII, unless a virama precedes it; a selector after a blank.
_SHAPES_NOTHING = re.compile(
    rf"(?<![^\x00-\x7f\s])[{_JOINERS}]"
    rf"|(?<![{_VIRAMAS}])[{_JOINERS}](?=[\x00-\x7f\s{_JOINERS}]|$)"
    rf"|(?<!\S)[{_SELECTORS}]"
)
# A larger share of control characters is found in UTF-16, UTF-32 and binary files only.
_CONTROLS = bytes({*range(32)} - set(b"\t\n\v\f\r\x1c\x1d\x1e\x1f"))
_CONTROL_SHARE, _CONTROL_LENGTH = 0.2, 8
# Marks that a writer may leave out: Hebrew points and Arabic vowels; and Arabic's lengthening.
_OPTIONAL = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670]"
)


def clean_line(line: str) -> str:
    """`line` in Unicode's composed form, without invisible characters, every run of blanks
    and control characters one space. A clean line does not change.
    """
    while (cleaner := _cleaned_once(line)) != line:
        line = cleaner
    return line


def decoded(line: bytes) -> str:
    """The text of a line in UTF-8; raises `ValueError` with the reason where it is not UTF-8."""
    controls = len(line) - len(line.translate(None, _CONTROLS))
    if len(line) >= _CONTROL_LENGTH and controls > _CONTROL_SHARE * len(line):
        name = "NUL bytes" if line.count(0) > controls / 2 else "control characters"
        raise ValueError(f"many {name}, as in UTF-16")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        place = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        mark = line.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise ValueError(f"{place}, as in UTF-16" if mark else place) from None


def duplicate_key(line: str) -> str:
    """The letters, marks and numbers of a line (Unicode's categories L, M and N), casefolded, every
    digit a 0; the line itself where it has none of them.

    Near-duplicates have the same key. Left out of it: Arabic vowels, Hebrew points and Arabic's
    lengthening, which a writer may leave out, and joiners and variation selectors.
    """
    # U+0307 is what casefolding leaves of the dot of a capital İ.
    folded = unicodedata.normalize("NFD", line.casefold()).replace("i\u0307", "i")
    return _OPTIONAL.sub("", folded.translate(_KEY_OF_CHARACTER)) or line


def _cleaned_once(line: str) -> str:
    """One pass: what it removes may bring a mark next to a letter that it composes with."""
    if not line.isascii():
        line = _INVISIBLE.sub("", unicodedata.normalize("NFC", line))
    line = " ".join(_BLANKS.sub(" ", line).split())
    return line if line.isascii() else _SHAPES_NOTHING.sub("", line)


class _KeyOfCharacter(dict[int, int | None]):
    """Table for `str.translate`, filled with the characters that occur."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Nd":
            self[code] = ord("0")
        elif category[0] in "LMN" and not re.match(f"[{_SELECTORS}]", character):
            self[code] = code
        else:
            self[code] = None
        return self[code]


_KEY_OF_CHARACTER = _KeyOfCharacter()
