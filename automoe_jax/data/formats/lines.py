"""Plain text, one sentence in a line; line i of one file translates line i of the other."""

from collections.abc import Iterator

from automoe_jax.data.formats.files import TextFile
from automoe_jax.data.formats.table import Wanted


def side(file: TextFile, wanted: Wanted) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines of a file."""
    del wanted
    yield from enumerate(file.lines(), start=1)
