"""Tables in text: TSV, whose columns hold the text as it is, and CSV, whose columns may be quoted
(RFC 4180).

The first line of a CSV is a header if it names both sides. That of a TSV is one only if the
settings name its columns.
"""

import csv as csv_module
from collections.abc import Iterable, Iterator, Sequence

from automoe_jax.data.cleaning import clean_line
from automoe_jax.data.formats import fields
from automoe_jax.data.formats.files import TextFile
from automoe_jax.data.formats.table import TAB_NAMES, Unit, Wanted
from automoe_jax.errors import UserError

_SKIP = "remove that pair from both sides, or set config.data.skip_blank=True"
_NAMES = {"\t": "TAB", ",": "comma", ";": "semicolon"}


def tsv(file: TextFile, wanted: Wanted) -> Iterator[Unit]:
    """The pairs of a TSV; a quotation mark is a part of the text."""
    rows = ((i, line.split("\t")) for i, line in enumerate(file.lines(), start=1))
    yield from _Table(file, wanted, "\t", header=False).units(rows)


def csv(file: TextFile, wanted: Wanted) -> Iterator[Unit]:
    """The pairs of a CSV, whose delimiter is a comma or `config.data.delimiter`."""
    delimiter = "\t" if wanted.delimiter in TAB_NAMES else wanted.delimiter or ","
    yield from _Table(file, wanted, delimiter, header=True).units(_rows(file, delimiter))


def _rows(file: TextFile, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(number of the first line, columns) of the rows; a quoted column may have several lines."""
    reader = csv_module.reader(
        (f"{line}\n" for line in file.lines()), delimiter=delimiter, strict=True
    )
    number = 1
    try:
        for row in reader:
            yield number, row or [""]
            number = reader.line_num + 1
    except csv_module.Error as error:
        raise UserError(
            f"{file.path}, line {number} is not CSV ({error}); check its quotation marks (one in a"
            " quoted column is doubled), or set config.data.format='tsv' if none has a meaning"
        ) from None


class _Table:
    """Picks the two sides from rows of columns."""

    def __init__(self, file: TextFile, wanted: Wanted, delimiter: str, *, header: bool):
        """`header`: whether the first row may be one without being named by the settings."""
        self._file, self._wanted, self._delimiter = file, wanted, delimiter
        self._may_have_header = header
        self._width = 0  # columns of every row; 0: two
        self._sides = (0, 1)

    def units(self, rows: Iterable[tuple[int, list[str]]]) -> Iterator[Unit]:
        """The pairs of the rows."""
        for i, (number, row) in enumerate(rows):
            if not i and self._begin(row):
                continue
            blank = not any(map(clean_line, row))
            if blank and len(row) == 1 and self._wanted.skip_blank:
                yield Unit(number, "", "")
                continue
            if len(row) != (self._width or 2):
                raise UserError(self._unequal(number, row, blank))
            yield Unit(number, *(row[side] for side in self._sides))

    def _begin(self, row: list[str]) -> bool:
        """Finds the columns by the first row; returns whether it is a header."""
        names = [clean_line(name) for name in row]
        asked = [one for one in self._wanted.columns if one]
        if asked and all(one.isdecimal() for one in asked):
            self._width, self._sides = len(row), self._numbered(names)
            return False
        recognised = fields.found(names, self._wanted)
        if asked or (recognised and self._may_have_header):
            place = f"line 1 of {self._file.path}"
            both = fields.chosen(names, self._wanted, place)
            self._width, self._sides = len(row), (names.index(both[0]), names.index(both[1]))
            self._file.note(f"columns {both[0]!r} and {both[1]!r} of the header")
            return True
        if recognised:
            self._file.note(
                f"line 1 looks like a header and is read as a pair; if it is a header, set"
                f" config.data.source_column={recognised[0]!r} and"
                f" config.data.target_column={recognised[1]!r}"
            )
        return False

    def _numbered(self, names: Sequence[str]) -> tuple[int, int]:
        sides = [int(one) if one else i for i, one in enumerate(self._wanted.columns, start=1)]
        for side, setting in zip(sides, ("source_column", "target_column"), strict=True):
            if not 1 <= side <= len(names):
                raise UserError(
                    f"config.data.{setting}={str(side)!r} is not in line 1 of {self._file.path},"
                    f" which has {_columns(len(names))}"
                )
        fields.check_two(sides, self._file.path)
        return sides[0] - 1, sides[1] - 1

    def _unequal(self, number: int, row: list[str], blank: bool) -> str:
        place = f"{self._file.path}, line {number} has {_columns(len(row))}"
        delimiter = _NAMES.get(self._delimiter, repr(self._delimiter))
        if self._width:
            return (
                f"{place} and line 1 has {self._width}, separated by {delimiter}; every line must"
                " have the same columns, so correct that line" + (f" ({_SKIP})" if blank else "")
            )
        rule = (
            f"{place}; each line must hold the source, one {delimiter} and the target (or name the"
            " target file in config.data.target_path)"
        )
        if blank:
            return f"{rule}; it is blank: {_SKIP}"
        if len(row) > 2:
            return (
                f"{rule}; if there are more columns, name those of the text in"
                " config.data.source_column and config.data.target_column, by header or number"
            )
        other = next((one for one in _NAMES if row[0].count(one) == 1), "")
        if self._delimiter != "\t" and other:
            name = {"\t": "tab"}.get(other, other)
            return (
                f"{rule}; if a {_NAMES[other]} separates them, set config.data.delimiter={name!r}"
            )
        return rule


def _columns(count: int) -> str:
    return f"{count} column{'' if count == 1 else 's'}"
