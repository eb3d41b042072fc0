"""File of JSON lines with all candidates of a search; each is appended as soon as it is scored.

Half a line at the end, left by a process that was killed while writing, is ignored when reading and
cut off by the next append.
"""

import json

from etils import epath

from automoe_jax.config import SearchConfig
from automoe_jax.errors import UserError
from automoe_jax.runtime.files import append_line, read_json, read_lines
from automoe_jax.search.candidate import Candidate
from automoe_jax.search.limits import within_limits


def append(path: epath.PathLike, candidate: Candidate) -> None:
    """Adds one line to the file at `path`, which need not exist, and returns when it is stored."""
    append_line(path, json.dumps(candidate.to_dict()).encode())


def load(path: epath.PathLike) -> list[Candidate]:
    """The candidates in the order they were scored; none if there is no file.

    Raises `UserError` naming the line that holds no candidate.
    """
    return [
        _parse(line, f"{path}, line {number}") for number, line in enumerate(read_lines(path), 1)
    ]


def load_within(path: epath.PathLike, settings: SearchConfig) -> list[Candidate]:
    """The candidates within the limits of a search; some algorithms score others too."""
    return [one for one in load(path) if within_limits(one.costs, settings)]


def load_front(path: epath.Path) -> list[Candidate]:
    """The members of a Pareto front from the JSON list at `path`; none if there is no file.

    Raises `UserError` naming the file if it holds anything else.
    """
    members = read_json(path, list) if path.exists() else []
    try:
        return [Candidate.from_dict(member) for member in members]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not hold a Pareto front ({error}); search again to write it"
        ) from None


def _parse(line: bytes, where: str) -> Candidate:
    try:
        return Candidate.from_dict(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{where} does not hold a candidate ({error}); delete the line, or the file to start"
            " the search again"
        ) from None
