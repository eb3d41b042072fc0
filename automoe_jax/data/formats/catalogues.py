"""Gettext's catalogues, PO and MO (translate-toolkit): messages and their translations.

Fuzzy and obsolete translations are left out. A message with plurals is two pairs: its singular, and
its plural with the last form of the translation.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

from automoe_jax.data.formats import fields
from automoe_jax.data.formats.encodings import is_known
from automoe_jax.data.formats.files import TextFile, optional
from automoe_jax.data.formats.table import Unit, Wanted
from automoe_jax.errors import UserError

_CHARSET = re.compile(rb"charset=([\w.:-]+)")
_UTF8 = ("utf-8", "utf8", "charset")  # also of a template, which does not name one
_REASON_CHARACTERS = 200
_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}([-_@]\w+)*", re.IGNORECASE)


def po(file: TextFile, wanted: Wanted) -> Iterator[Unit]:
    """The messages of a catalogue in text; a target is blank where one is not translated."""
    module = optional("translate.storage.pypo", "a PO file", "translate-toolkit")
    yield from _units(file, wanted, module.pofile(), _in_utf8(file))


def mo(file: TextFile, wanted: Wanted) -> Iterator[Unit]:
    """The messages of a compiled catalogue."""
    module = optional("translate.storage.mo", "an MO file", "translate-toolkit")
    yield from _units(file, wanted, module.mofile(), file.content(), _check_ends)


def _units(
    file: TextFile,
    wanted: Wanted,
    store: Any,
    content: bytes,
    check: Callable[[bytes], None] | None = None,
) -> Iterator[Unit]:
    try:
        store.parse(content)
        if check:
            check(content)
    except (ValueError, LookupError, struct.error) as error:
        reason = " ".join(str(error).split())[:_REASON_CHARACTERS]
        raise UserError(
            f"{file.path} is not a complete gettext catalogue ({reason}); check it, for example"
            " with msgfmt --check"
        ) from None
    _check_language(file, wanted, store)
    translated = False
    for number, unit in enumerate(store.units, start=1):
        if unit.isheader():
            continue
        usable = unit.istranslated() and not unit.isfuzzy() and not unit.isobsolete()
        sources, targets = _forms(unit.source), _forms(unit.target) if usable else [""]
        translated = translated or usable
        yield Unit(number, sources[0], targets[0])
        if len(sources) > 1:
            yield Unit(number, sources[-1], targets[-1])
    if not translated:
        raise UserError(
            f"{file.path} has no translated message; name a catalogue with translations, and not a"
            " template"
        )


def _check_ends(content: bytes) -> None:
    """Raises `ValueError` for a compiled catalogue that ends before its messages, which the library
    reads as shorter or blank ones.
    """
    order = "<" if content.startswith(b"\xde") else ">"
    count, *tables = struct.unpack(f"{order}3I", content[8:20])
    for start in tables:
        strings = content[start : start + count * struct.calcsize("2I")]
        ends = [sum(string) for string in struct.iter_unpack(f"{order}2I", strings)]
        if len(ends) < count or max(ends, default=0) > len(content):
            raise ValueError(f"it ends at byte {len(content)}")


def _forms(text: Any) -> list[str]:
    """The plural forms of a message, one without plurals."""
    return [str(form) for form in getattr(text, "strings", [text])]


def _check_language(file: TextFile, wanted: Wanted, store: Any) -> None:
    language = (store.parseheader().get("Language") or "").strip()
    target = wanted.languages[1]
    known = _LANGUAGE_CODE.fullmatch(language)
    if known and not wanted.labelled and not fields.is_language(language, target):
        raise UserError(
            f"{file.path} is translated into {language!r} by its header and not into {target!r};"
            " set config.data.target_language, or correct the header"
        )


def _in_utf8(file: TextFile) -> bytes:
    """The content in UTF-8; raises `UserError` for a line that is not in the declared charset."""
    content = file.content()
    declared = _CHARSET.search(content)
    name = declared[1].decode() if declared else ""
    if not name or name.casefold() in _UTF8:
        lines = file.lines()
    else:
        if not is_known(name):
            raise UserError(
                f"{file.path} declares the charset {name!r}, which Python does not know; correct"
                " its header"
            )
        lines = TextFile(file.path, name, "the charset in its header").lines()
    text = "\n".join(lines).encode()
    return _CHARSET.sub(b"charset=UTF-8", text, count=1)
