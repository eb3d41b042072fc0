"""The local files that the text of a run comes from, and whether they have changed since."""

import hashlib
import pathlib
from collections.abc import Mapping

from automoe_jax.config import DataConfig
from automoe_jax.data import folder
from automoe_jax.data.formats.files import matches


def digests(data: DataConfig) -> dict[str, str]:
    """The SHA-256 of each local file that the settings name or match, by its path as it is written
    there; none for text that is downloaded or made.
    """
    if data.source == "folder":
        named = folder.files(data)
    else:
        named = [path for setting in (data.path, data.target_path) for path in matches(setting)]
    paths = [path for path in named if _local(path).is_file()]
    return {path: _digest(path) for path in paths}


def changed(recorded: Mapping[str, str]) -> str | None:
    """The first of these files that now has another content than `digests` recorded; one that is
    gone has not changed.
    """
    there = (path for path in recorded if _local(path).is_file())
    return next((path for path in there if _digest(path) != recorded[path]), None)


def _local(path: str) -> pathlib.Path:
    return pathlib.Path(path).expanduser()


def _digest(path: str) -> str:
    with _local(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
