"""Exported models of a workdir, made on first use; imports no JAX where one exists already.

`export/float32` and `export/int8` of a workdir hold them. A workdir that cannot be written to, or
is in an object store, gets a temporary folder, which the process removes when it ends.
"""

import atexit
import errno
import hashlib
import json
import pathlib
import shutil
import tempfile
from typing import Any

from automoe_jax.errors import UserError
from automoe_jax.export.settings import FLOAT32, PRECISIONS
from automoe_jax.inference.engine.folder import DESCRIPTION, VERSION, is_unchanged, sha256
from automoe_jax.names import ARCH_FILE, CONFIG_FILE, DEFAULTS_FILE, RETRAINED_FOLDER, SUMMARY_FILE

FOLDER = "export"
# files that identify the weights and settings of an export: the first of each group that exists
_SOURCES = (
    (CONFIG_FILE,),
    (ARCH_FILE, f"retrain/{ARCH_FILE}"),
    (f"{RETRAINED_FOLDER}/{SUMMARY_FILE}",),
)


def exported(root: str, precision: str | None = None) -> pathlib.Path:
    """The folder of the exported sub-Transformer of a workdir, exported now unless one with
    its weights exists; raises `UserError` if the workdir holds no trained one.
    """
    precision = precision or default_precision(root)
    folder = pathlib.Path(root) / FOLDER / precision
    if is_current(root, folder):
        return folder
    from automoe_jax.export.workdirs import export_onnx  # imports JAX

    if "://" not in root:
        try:
            export_onnx(root, folder, precision)
            return folder
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
    own = pathlib.Path(tempfile.mkdtemp(prefix="automoe_jax_"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    export_onnx(root, own / precision, precision)
    return own / precision


def default_precision(root: str) -> str:
    """int8 if it passed the test of the stage evaluate in this workdir, otherwise float32."""
    return _defaults(root)[0]


def default_shortlist(root: str, precision: str) -> int:
    """N of the shortlist that passed the test of the stage evaluate in this workdir with this
    precision, otherwise 0, the whole vocabulary.
    """
    return _defaults(root)[1].get(precision, 0)


def _defaults(root: str) -> tuple[str, dict[str, int]]:
    """The default precision, and N of the default shortlist of each precision; raises `UserError`
    if they are damaged.
    """
    try:
        stored = json.loads((_path(root) / DEFAULTS_FILE).read_text())
        sizes = {str(name): int(size) for name, size in stored["shortlist"].items()}
        if stored["precision"] not in PRECISIONS:
            raise ValueError(stored["precision"])
        return stored["precision"], sizes
    except (FileNotFoundError, NotADirectoryError):
        return FLOAT32, {}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(
            f"{root}/{DEFAULTS_FILE} is damaged; delete it, and choose with --precision and"
            " --shortlist"
        ) from None


def fingerprint(root: str) -> str:
    """Identifies the weights and settings of a local workdir's sub-Transformer; empty if some of
    its files are absent.
    """
    digest = hashlib.sha256()
    for names in _SOURCES:
        found = (path for name in names if (path := _path(root) / name).exists())
        if not (path := next(found, None)):
            return ""
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _path(root: str) -> Any:
    if "://" not in root:
        return pathlib.Path(root)
    from etils import epath

    return epath.Path(root)


def is_current(root: str, folder: pathlib.Path) -> bool:
    """Whether the folder holds an undamaged export of the weights that the workdir has now."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        is_readable = description["version"] == VERSION and is_unchanged(description)
        same = (
            is_readable
            and bool(description["trained"])
            and description["trained"] == fingerprint(root)
        )
        files = description.get("files", {})
        return same and all(sha256(folder / name) == checksum for name, checksum in files.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
