"""XLIFF 1.2 and 2.x (OASIS), the exchange format of localisation, read unit by unit."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from automoe_jax.data.formats import fields, xml
from automoe_jax.data.formats.files import TextFile
from automoe_jax.data.formats.table import Unit, Wanted

_UNITS = ("trans-unit", "segment")  # of versions 1.2 and 2.x
# States, of the target (1.2) or its segment (2.x), in which a target is not a translation yet.
_UNTRANSLATED = frozenset({"new", "needs-translation", "initial"})


def pairs(file: TextFile, wanted: Wanted) -> Iterator[Unit]:
    """The units in either direction; a side is blank where a unit is not translated."""
    languages = fields.Languages(file, wanted)
    found = xml.elements(file, "xliff", _UNITS)
    for number, (unit, ancestors) in enumerate(found, start=1):
        texts = {
            _language(ancestors, side, given): "".join(map(xml.text, _translated(unit, side)))
            for side, given in zip(("target", "source"), wanted.languages[::-1], strict=True)
        }
        yield Unit(number, *languages.sides(texts))
    languages.check()


def _translated(unit: Element, side: str) -> list[Element]:
    """The elements of a side, without targets that are not translated."""
    found = xml.children(unit, side)
    if side == "source":
        return found
    return [one for one in found if not {one.get("state"), unit.get("state")} & _UNTRANSLATED]


def _language(ancestors: tuple[Element, ...], side: str, given: str) -> str:
    """The language of a side, declared by the file (1.2) or the root (2.x); else `given`."""
    names = (f"{side}-language", "srcLang" if side == "source" else "trgLang")
    declared = (element.get(name) for element in ancestors[::-1] for name in names)
    return next(filter(None, declared), given)
