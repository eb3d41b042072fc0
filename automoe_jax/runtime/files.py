"""Files that are either complete or absent, whatever kills the process; on a disk or in an object
store.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import IO

from etils import epath


@contextlib.contextmanager
def atomic_writer(path: os.PathLike[str] | str) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` only when the block ends without an exception; makes
    its folder.
    """
    final = epath.Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = final.parent / f".{final.name}.part"
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(final)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def is_local(path: os.PathLike[str] | str) -> bool:
    """Whether the path is on a file system, and not in an object store such as gs://."""
    return "://" not in os.fspath(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """The path from the file system's root, which Orbax insists on; a bucket's URL stays as it
    is.
    """
    return epath.Path(path).expanduser().resolve() if is_local(path) else epath.Path(path)
