"""Writes the folder of an exported model atomically."""

import pathlib
import shutil
import tempfile
from collections.abc import Mapping

from automoe_jax.errors import UserError
from automoe_jax.inference.engine import folder as engine_folder


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
        text = engine_folder.described(description, checksums)
        (draft / engine_folder.DESCRIPTION).write_text(text)
        draft.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
