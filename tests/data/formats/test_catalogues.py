"""Gettext's catalogues: what is translated, plurals, charsets, and broken files."""

import struct

import pytest

from automoe_jax.data.formats import catalogues
from automoe_jax.data.formats.table import Unit
from automoe_jax.errors import UserError

pypo = pytest.importorskip("translate.storage.pypo")

HEADER = r"""msgid ""
msgstr ""
"Language: de\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

"""
PO = (
    HEADER
    + r"""#: a.c:1
msgid "Open\n"
"file"
msgstr "Datei "
"öffnen"

msgctxt "menu"
msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d Datei"
msgstr[1] "%d Dateien"

#, fuzzy
msgid "Close"
msgstr "Nahe"

msgid "Save"
msgstr ""

#~ msgid "old"
#~ msgstr "alt"
"""
)


def test_po(read):
    assert read(catalogues.po, PO) == [
        Unit(2, "Open\nfile", "Datei öffnen"),
        Unit(3, "%d file", "%d Datei"),
        Unit(3, "%d files", "%d Dateien"),
        Unit(4, "Close", ""),
        Unit(5, "Save", ""),
        Unit(6, "old", ""),
    ]


def test_mo(read):
    store = pypo.pofile()
    store.parse(PO.encode())
    compiled = pytest.importorskip("translate.storage.mo").mofile()
    for unit in store.units:
        if unit.istranslated() or unit.isheader():
            added = compiled.addsourceunit(unit.source)
            added.target = unit.target
    found = read(catalogues.mo, bytes(compiled))
    assert {unit[1:] for unit in found} == {
        ("Open\nfile", "Datei öffnen"),
        ("%d file", "%d Datei"),
        ("%d files", "%d Dateien"),
    }


def test_declared_charsets(read):
    latin = PO.replace("UTF-8", "ISO-8859-1").encode("latin-1")
    assert read(catalogues.po, latin) == read(catalogues.po, PO)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + 'msgid "a\nmsgstr "b"\n', r"a is not a complete gettext catalogue \(end-of-line"),
        (HEADER + "garbage\n", r"catalogue \(Syntax error on line 7: .*; check it, for example"),
        (PO.encode("latin-1"), r"a, line 11 is not UTF-8 \(byte 0xf6 at column 2\)"),
        (PO.replace("UTF-8", "latin-99"), r"a declares the charset 'latin-99'"),
        (
            PO.replace("Language: de", "Language: fr_CA"),
            r"a is translated into 'fr_CA' by its",
        ),
        (HEADER, r"a has no translated message; name a catalogue with translations"),
        ("", r"a is empty"),
    ],
)
def test_mistakes_name_the_file(read, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(catalogues.po, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
def test_mo_that_ends_early(read, order):
    """The library reads cut messages as shorter or blank ones."""
    strings = [b"", b"Language: de\n", b"cat", b"Katze"]
    tables, text = b"", b""
    for string in (strings[0], strings[2], strings[1], strings[3]):
        tables += struct.pack(f"{order}2I", len(string), 28 + 32 + len(text))
        text += string + b"\0"
    content = struct.pack(f"{order}7I", 0x950412DE, 0, 2, 28, 28 + 16, 0, 0) + tables + text
    assert read(catalogues.mo, content) == [Unit(2, "cat", "Katze")]
    for end in (-3, -9, 50, 30):
        with pytest.raises(UserError, match=r"a is not a complete gettext catalogue \("):
            read(catalogues.mo, content[:end])


@pytest.mark.parametrize("content", [b"", b"\xde\x12\x04\x95", b"\xde\x12\x04\x95" + b"\xff" * 40])
def test_damaged_mo(read, content):
    with pytest.raises(UserError, match=r"a (is not a complete gettext|has no translated)"):
        read(catalogues.mo, content)
