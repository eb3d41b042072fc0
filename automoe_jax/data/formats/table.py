"""The formats of files of parallel text: every value of `config.data.format`, in one table.

This module is imported by the configuration: it imports no library of a format before it is used.
A new format is one file with a reader, and one entry.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from automoe_jax.registry import Registry, lazily

if TYPE_CHECKING:
    from automoe_jax.data.formats.files import TextFile


class Unit(NamedTuple):
    """A sentence and its translation or class, as a file has them: not cleaned, maybe blank."""

    number: int  # of the line, row or unit in its file, from 1
    source: str
    target: str


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The parts of a file that a reader returns, by the settings of `config.data`."""

    languages: tuple[str, str]  # of source and target
    # names of columns, or their numbers from 1, of source and target; empty: found by their names
    columns: tuple[str, str] = ("", "")
    delimiter: str = ""  # between the columns of CSV, one of TAB_NAMES for TAB; empty: a comma
    labelled: bool = False  # the target is a class
    skip_blank: bool = False  # a blank line is a blank pair


@dataclasses.dataclass(frozen=True)
class Format:
    """How files of one format are recognised and read.

    Readers yield what a file holds, in its order, and raise `UserError` with the file and the
    place for what they cannot read.
    """

    # of a file with both sides; None: there are no such files
    pairs: "Callable[[TextFile, Wanted], Iterator[Unit]] | None" = None
    # (number, text), of a file with one side; None: there are no such files
    side: "Callable[[TextFile, Wanted], Iterator[tuple[int, str]]] | None" = None
    endings: tuple[str, ...] = ()  # of the names of files, without an ending for compression
    signs: tuple[bytes, ...] = ()  # first bytes of files
    unit: str = "line"  # what a reader numbers
    partial: bool = False  # units without a translation are usual, and left out


_FORMATS = "automoe_jax.data.formats"

FORMATS: Registry[Format] = Registry(
    "config.data.format",
    {
        "lines": Format(side=lazily(f"{_FORMATS}.lines", "side")),
        "tsv": Format(lazily(f"{_FORMATS}.delimited", "tsv"), endings=(".tsv", ".tab")),
        "csv": Format(lazily(f"{_FORMATS}.delimited", "csv"), endings=(".csv",)),
        "jsonl": Format(
            lazily(f"{_FORMATS}.json_lines", "pairs"),
            endings=(".jsonl", ".ndjson", ".json"),
        ),
        "parquet": Format(
            lazily(f"{_FORMATS}.parquet", "pairs"),
            endings=(".parquet",),
            signs=(b"PAR1",),
            unit="row",
        ),
        "tmx": Format(
            lazily(f"{_FORMATS}.tmx", "pairs"), endings=(".tmx",), unit="unit", partial=True
        ),
        "xliff": Format(
            lazily(f"{_FORMATS}.xliff", "pairs"),
            endings=(".xlf", ".xliff", ".mxliff", ".sdlxliff"),
            unit="unit",
            partial=True,
        ),
        "po": Format(
            lazily(f"{_FORMATS}.catalogues", "po"), endings=(".po",), unit="message", partial=True
        ),
        "mo": Format(
            lazily(f"{_FORMATS}.catalogues", "mo"),
            endings=(".mo", ".gmo"),
            signs=(b"\xde\x12\x04\x95", b"\x95\x04\x12\xde"),
            unit="message",
            partial=True,
        ),
        "wmt_xml": Format(
            lazily(f"{_FORMATS}.wmt", "pairs"), endings=(".xml",), unit="segment", partial=True
        ),
        "sgml": Format(
            side=lazily(f"{_FORMATS}.wmt", "sgml"), endings=(".sgm", ".sgml"), unit="segment"
        ),
    },
)
TAB_NAMES = ("tab", "\\t")
# Formats of files that nothing else identifies: one file with both sides, or one for each.
ONE_FILE, TWO_FILES = "tsv", "lines"
