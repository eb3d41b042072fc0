"""Lines as they arrive."""

import os
import threading

import pytest

from automoe_jax.errors import UserError
from automoe_jax.inference.serving import arriving_lines, check_language


def sent(content: bytes) -> list[str]:
    """The lines of `content`, read from a pipe."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(content)

    threading.Thread(target=write).start()
    try:
        return [line for lines in arriving_lines(reading) for line in lines]
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    "lines",
    [
        ["one", "two"],
        ["", "", ""],
        ["a\u2028b\x85c\x0bd\x0ce\x1cf", "\u2029"],
        ["\ufeffone", "\u00a0", "\u200b", "\0"],
        ["x" * 1_000_000, "y", "z" * 200_000],
    ],
    ids=lambda lines: ascii(lines[0])[:20],
)
@pytest.mark.parametrize("end", ["\n", ""])
def test_only_a_newline_ends_a_line(lines: list[str], end: str) -> None:
    found = sent("\n".join(lines).encode() + end.encode())
    assert found == (lines if end or lines[-1] else lines[:-1])


def test_nothing_is_no_line() -> None:
    assert sent(b"") == []


def test_utf16_is_named() -> None:
    with pytest.raises(UserError, match=r"line 1 of the input is not UTF-8 \(.*as in UTF-16\)"):
        sent("Anna finds the dog.\n".encode("utf-16-le"))


def test_the_input_must_be_in_the_declared_language() -> None:
    check_language(None, "en")
    check_language("en", "en")
    with pytest.raises(UserError, match=r"--source_language=fr is not the language .*, en; name a"):
        check_language("fr", "en")
