"""Files and folders on a disk or in an object store such as gs://: paths that every library can
read, writes that are complete or absent after any end of the process, files of lines and of JSON,
and the message for a file that is damaged.
"""

import contextlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from etils import epath

from automoe_jax.errors import UserError

# Orbax passes its paths to `glob`, where these characters are patterns: it would write a checkpoint
# and never find it again.
_PATTERNS = re.compile(r"[*?\[\\]")

# Exceptions of the readers of JSON, .npz files and tokenizers.
_SIGNS_OF_DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def atomic_writer(path: epath.PathLike) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` only when the block ends without an exception; makes
    its folder.

    On a disk its content is synced before it gets its name, and the name before this returns, so
    that a power cut leaves the old file or the new one.
    """
    final = epath.Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = final.parent / f".{final.name}.part"
    try:
        with draft.open("wb") as file:
            yield file
            if is_local(final):
                file.flush()
                os.fsync(file.fileno())
        draft.replace(final)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error counts, as that of a full disk
            draft.unlink(missing_ok=True)
        raise
    _sync_folder(final.parent)


def append_line(path: epath.PathLike, line: bytes) -> None:
    """Adds a line to a file, which need not exist, and returns when it is stored.

    Half a line at the file's end, left by a process that was killed, is cut off first. An object in
    a store cannot be appended to: there the whole file is written again.
    """
    path = epath.Path(path)
    if not is_local(path):
        with atomic_writer(path) as file:
            file.write(b"".join(one + b"\n" for one in [*read_lines(path), line]))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with open(path, "ab") as file:
        file.truncate(_complete_bytes(path))
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        _sync_folder(path.parent)


def read_lines(path: epath.PathLike) -> list[bytes]:
    """The complete lines of a file, without their line breaks; none if there is no file."""
    path = epath.Path(path)
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes a JSON file atomically."""
    with atomic_writer(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False).encode())


def read_json(path: epath.PathLike, kind: type = object) -> Any:
    """The value that `write_json` wrote, of this type; raises `UserError` for a file that is
    missing or damaged.
    """
    with readable(path):
        value = json.loads(epath.Path(path).read_text())
        if not isinstance(value, kind):
            raise ValueError(f"it holds no {kind.__name__}")
        return value


@contextlib.contextmanager
def readable(path: epath.PathLike) -> Iterator[None]:
    """Turns errors of the block while it reads a file of a workdir into a `UserError` that names
    the file and the way out.
    """
    again = "run the command that writes it (for a workdir python -m automoe_jax.main) again"
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {again}") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); make it readable, or remove it and"
            f" {again}"
        ) from None
    except _SIGNS_OF_DAMAGE as error:
        if isinstance(error, UserError) and os.fspath(path) in str(error):
            raise
        raise UserError(
            f"{path} is damaged ({str(error) or type(error).__name__}); remove it and {again}"
        ) from None


def is_local(path: epath.PathLike) -> bool:
    """Whether the path is on a file system, and not in an object store such as gs://."""
    return "://" not in os.fspath(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """The path from the file system's root, as Orbax demands, with symbolic links as they are; a
    bucket's URL as it is.

    Raises `UserError` for a path that Orbax could write to but not read from, and for a store that
    cannot be reached from here.
    """
    if not is_local(path):
        return _in_store(os.fspath(path))
    resolved = epath.Path(path).expanduser().resolve()
    name = os.fspath(resolved)
    if pattern := _PATTERNS.search(name):
        raise UserError(
            f"the path {name} holds the character {pattern[0]!r}, with which checkpoints could be"
            " written but not read; rename that folder, link to it or name another one, without any"
            " of * ? [ \\"
        )
    if not name.isascii() and not _is_unicode(name):
        raise UserError(
            f"the path {name!r} is not valid UTF-8; rename that folder or name another one"
        )
    if scheme := re.match(r"(gs|s3):/", os.fspath(path)):
        raise UserError(
            f"the path {path} names a folder {scheme[1]}: on this machine; a bucket is written"
            f" {scheme[1]}://BUCKET/FOLDER"
        )
    return resolved


def _in_store(url: str) -> epath.Path:
    """The path of a bucket's URL, once it is known that the store can be asked."""
    try:
        path = epath.Path(url)
        path.exists()
    except KeyError:  # of epath's table
        raise UserError(
            f"{url} is in no store that is known here; name a local path, or a bucket as"
            " gs://BUCKET/FOLDER"
        ) from None
    except ImportError as error:
        raise UserError(f"{url} cannot be reached: {error}, for example with pip") from None
    return path


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sync_folder(folder: epath.Path) -> None:
    """Returns when the names in a folder are on the disk; does nothing if the system has no such
    operation.
    """
    if not is_local(folder):
        return
    with contextlib.suppress(OSError):  # some network file systems cannot open or sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _complete_bytes(path: epath.Path) -> int:
    """The length of a file up to and including its last line break."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 4096)
            file.seek(start)
            if (last := file.read(end - start).rfind(b"\n")) >= 0:
                return start + last + 1
            end = start
    return 0
