"""Encodings of text: what a byte-order mark says, and what text that is not UTF-8 may be.

A guess is only ever part of a message: the user chooses with `config.data.encoding`.
"""

import codecs
import encodings.aliases
import re
import unicodedata

import charset_normalizer

from automoe_jax.errors import suggestion

UTF8_MARK = codecs.BOM_UTF8
RULE = "is no encoding of text that Python knows; name one such as 'cp1252', or leave it empty"
# The mark of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Encodings by the offsets in four bytes at which many NULs are found.
_WIDE = {"x000": "utf-32-le", "000x": "utf-32-be", "x0x0": "utf-16-le", "0x0x": "utf-16-be"}
_GUESSES = 3
_SAMPLE_CHARACTERS = 12


def of_mark(head: bytes) -> str:
    """The encoding that a byte-order mark names; empty for UTF-8 and without a mark."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")


def is_known(name: str) -> bool:
    """Whether Python decodes text by this name."""
    try:
        "a".encode(name)
    except (LookupError, ValueError):
        return False
    return True


def suggested(name: str) -> str:
    """The known encoding that is closest to `name`, as the end of a sentence."""
    return suggestion(name.lower().replace("-", "_"), encodings.aliases.aliases)


def guesses(sample: bytes, line: bytes) -> dict[str, str]:
    """Encodings of a byte each that `sample` may have, or of several for East Asian text; the
    likeliest first, each with the beginning of the first foreign word of `line` in it.
    """
    able = [
        match.encoding
        for match in charset_normalizer.from_bytes(sample)
        if not match.encoding.startswith(("utf_16", "utf_32", "utf_7"))
    ]
    found: dict[str, str] = {}
    for encoding in sorted(able, key=lambda one: _oddities(sample.decode(one, "replace"))):
        text = _foreign_word(line, encoding)
        if text not in found.values() and len(found) < _GUESSES:
            found[encoding] = text
    return found


def wide(head: bytes) -> dict[str, str]:
    """The form of UTF-16 or UTF-32 that the first bytes of a file have by the places of their NULs,
    with its first characters; empty for other text.
    """
    head = head[: len(head) // 4 * 4]
    zeros = [head[offset::4].count(0) * 8 > len(head[offset::4]) for offset in range(4)]
    name = _WIDE.get("".join("0" if zero else "x" for zero in zeros))
    return {name: head.decode(name, "ignore").strip()[:_SAMPLE_CHARACTERS]} if name else {}


def _oddities(text: str) -> int:
    """The number of characters beyond ASCII that are neither letters, marks, digits nor
    punctuation: a sign of a wrong encoding.
    """
    return sum(not char.isascii() and unicodedata.category(char)[0] not in "LMNPZ" for char in text)


def _foreign_word(line: bytes, encoding: str) -> str:
    text = line.decode(encoding, "replace")
    word = re.search(r"\S*[^\x00-\x7f]\S*", text)
    return (word[0] if word else text.strip())[:_SAMPLE_CHARACTERS]
