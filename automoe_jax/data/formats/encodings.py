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
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_OF_NAMES = ("idna", "punycode")  # encode names of hosts, not text
_NO_CHARACTERS = ("Cc", "Cn", "Co")  # categories: controls, unassigned, private use
_GUESSES = 3
_SAMPLE_CHARACTERS = 12


def of_mark(head: bytes) -> str:
    """The encoding that a byte-order mark names; empty for UTF-8 and without a mark."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")


def is_known(name: str) -> bool:
    """Whether Python decodes text by this name."""
    try:
        if codecs.lookup(name).name in _OF_NAMES:
            return False
        "a".encode(name)
    except (LookupError, ValueError):
        return False
    return True


def suggested(name: str) -> str:
    """The known encoding that is closest to `name`, as the end of a sentence."""
    names = [*filter(is_known, encodings.aliases.aliases)]
    return suggestion(name.lower().replace("-", "_"), names)


def guesses(sample: bytes, line: bytes) -> dict[str, str]:
    """Encodings of a byte each that `sample` may have, or of several for East Asian text; the
    likeliest first, each with the beginning of the first foreign word of `line` in it.
    """
    able = [
        match.encoding
        for match in charset_normalizer.from_bytes(sample)
        if not match.encoding.startswith("utf_")
    ]
    found: dict[str, str] = {}
    for encoding in sorted(able, key=lambda one: _oddities(sample.decode(one, "replace"))):
        text = _foreign_word(line, encoding)
        if text not in found.values() and len(found) < _GUESSES:
            found[encoding] = text
    return found


def wide(head: bytes) -> dict[str, str]:
    """The form of UTF-16 or UTF-32 in which the first bytes of a file are text, with its first
    characters; empty for other text, which has no NUL.
    """
    if 0 not in head:
        return {}
    texts = {name: text for name in _WIDE if (text := _strictly(head, name))}
    name = max(texts, key=lambda one: sum(map(str.isascii, texts[one])), default="")
    return {name: texts[name].strip()[:_SAMPLE_CHARACTERS]} if name else {}


def _strictly(head: bytes, encoding: str) -> str:
    """The text of the first bytes of a file, or nothing where they are no text in this encoding."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return ""
    able = any(map(str.isascii, text)) and not any(
        unicodedata.category(char) in _NO_CHARACTERS for char in text if char not in "\t\r\n"
    )
    return text if able else ""


def _oddities(text: str) -> int:
    """The number of characters beyond ASCII that are neither letters, marks, digits nor
    punctuation: a sign of a wrong encoding.
    """
    return sum(not char.isascii() and unicodedata.category(char)[0] not in "LMNPZ" for char in text)


def _foreign_word(line: bytes, encoding: str) -> str:
    text = line.decode(encoding, "replace")
    word = re.search(r"\S*[^\x00-\x7f]\S*", text)
    return (word[0] if word else text.strip())[:_SAMPLE_CHARACTERS]
