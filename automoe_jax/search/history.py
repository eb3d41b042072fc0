"""Every candidate of a search in one file of JSON lines, appended to as soon as each is scored.

A process killed while writing leaves half a line at the end: reading drops it, and the next append
cuts it off. Objects in a store, such as gs://, cannot be appended to: there the whole file is
written again, which is atomic.
"""

import json
import os
from pathlib import Path
from typing import IO

from etils import epath

from automoe_jax.errors import UserError
from automoe_jax.search.candidate import Candidate


def append(path: str | os.PathLike[str], candidate: Candidate) -> None:
    """Adds one line to the file at `path`, which need not exist, and returns when it is kept."""
    line = json.dumps(candidate.to_dict()).encode() + b"\n"
    if "://" in os.fspath(path):
        whole = epath.Path(path)
        before = whole.read_bytes() if whole.exists() else b""
        whole.write_bytes(before[: before.rfind(b"\n") + 1] + line)
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with path.open("r+b") as file:
        file.truncate(_complete_bytes(file))
        file.seek(0, os.SEEK_END)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def load(path: str | os.PathLike[str]) -> list[Candidate]:
    """The candidates in the order they were scored; none where there is no file.

    Raises `UserError` naming the line that holds no candidate.
    """
    file = epath.Path(path)
    if not file.exists():
        return []
    *lines, _half = file.read_bytes().split(b"\n")
    return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _parse(line: bytes, where: str) -> Candidate:
    try:
        return Candidate.from_dict(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{where} does not hold a candidate ({error}); delete the line, or the file to search"
            " anew"
        ) from None


def _complete_bytes(file: IO[bytes]) -> int:
    """The length of the file up to and including its last line break."""
    size = file.seek(0, os.SEEK_END)
    while size > 0:
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return size
        size -= 1
    return 0
