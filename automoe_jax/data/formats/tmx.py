"""TMX, the exchange format of translation memories (LISA, version 1.4b), read unit by unit."""

from collections.abc import Iterator

from automoe_jax.data.formats import fields, xml
from automoe_jax.data.formats.files import TextFile
from automoe_jax.data.formats.table import Unit, Wanted


def pairs(file: TextFile, wanted: Wanted) -> Iterator[Unit]:
    """The translation units; a side is blank where a unit lacks the language."""
    languages = fields.Languages(file, wanted)
    for number, (unit, _) in enumerate(xml.elements(file, "tmx", ("tu",)), start=1):
        texts: dict[str, str] = {}
        for variant in xml.children(unit, "tuv"):
            language = variant.get(xml.LANGUAGE) or variant.get("lang") or ""
            segments = "".join(map(xml.text, xml.children(variant, "seg")))
            texts.setdefault(language, segments)
        yield Unit(number, *languages.sides(texts))
    languages.check()
