"""Writes the folder of an exported model atomically."""

import dataclasses
import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping

from automoe_jax.errors import UserError
from automoe_jax.inference.engine import folder as engine_folder
from automoe_jax.runtime.files import atomic_writer


def write_folder(
    out: pathlib.Path, description: engine_folder.Description, files: Mapping[str, bytes]
) -> None:
    """Writes `files` and their description to the folder `out`, replacing an exported model there;
    raises `UserError` if `out` holds anything else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out={out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / engine_folder.DESCRIPTION).exists():
        raise UserError(f"--out={out} holds other files; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for name, content in files.items():
            (draft / name).write_bytes(content)
        checksums = {name: engine_folder.sha256(draft / name) for name in files}
        _describe(draft, description, checksums)
        draft.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def describe_again(folder: pathlib.Path, description: engine_folder.Description) -> None:
    """Replaces the description of an exported model of the same weights; its licence remains."""
    stored = json.loads((folder / engine_folder.DESCRIPTION).read_text())
    kept = dataclasses.replace(description, license=stored["license"])
    _describe(folder, kept, stored["files"])


def _describe(
    folder: pathlib.Path, description: engine_folder.Description, checksums: Mapping[str, str]
) -> None:
    """Writes the description; checksums: of each of the other files."""
    with atomic_writer(folder / engine_folder.DESCRIPTION) as file:
        file.write(engine_folder.described(description, checksums).encode())
