"""Test sets of WMT: SGML, a file for each side (until 2020), and XML with both (since 2021)."""

import html.parser
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from automoe_jax.data.formats import fields, xml
from automoe_jax.data.formats.files import TextFile
from automoe_jax.data.formats.table import Unit, Wanted
from automoe_jax.errors import UserError


def sgml(file: TextFile, wanted: Wanted) -> Iterator[tuple[int, str]]:
    """(number, text) of the segments of one side."""
    del wanted
    parser, number = _Segments(), 0
    for line in file.lines():
        parser.feed(f"{line}\n")
        for segment in parser.complete:
            number += 1
            yield number, segment
        parser.complete.clear()
    if parser.is_open:
        raise UserError(
            f"{file.path} ends in segment {number + 1}, before </seg>; download the file again"
        )
    if not number:
        raise UserError(
            f"{file.path} has no <seg>; name a test set of WMT, or set config.data.format"
        )


def pairs(file: TextFile, wanted: Wanted) -> Iterator[Unit]:
    """The segments of the documents with their first reference."""
    languages, number = fields.Languages(file, wanted), 0
    for document, _ in xml.elements(file, "dataset", ("doc",)):
        sides: dict[str, dict[str, str]] = {}
        for kind in ("src", "ref"):
            for side in xml.children(document, kind):
                sides.setdefault(side.get("lang", ""), _by_id(side))
        for name in next(iter(sides.values()), {}):
            number += 1
            texts = {language: segments.get(name, "") for language, segments in sides.items()}
            yield Unit(number, *languages.sides(texts))
    languages.check()


def _by_id(side: Element) -> dict[str, str]:
    segments = (one for one in side.iter() if xml.local_name(one) == "seg")
    return {one.get("id", ""): xml.text(one) for one in segments}


class _Segments(html.parser.HTMLParser):
    """Collects the text of <seg> elements, in SGML that is not always XML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.complete: list[str] = []
        self._parts: list[str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the text ended within a segment."""
        return self._parts is not None

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "seg":
            self._parts = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "seg" and self._parts is not None:
            self.complete.append("".join(self._parts))
            self._parts = None

    def handle_data(self, data: str) -> None:
        if self._parts is not None:
            self._parts.append(data)
