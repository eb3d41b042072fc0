"""A lock on a folder: one run at a time writes to it, and its file names that run.

On a file system the kernel holds the lock and gives it up when the process ends, however it ends;
the file's content identifies the run. Object stores, and file systems without locks, have no
such thing. There a run that finds the file of another one takes it over if that ran on this machine
and has ended, refuses to start if it is still running here, and warns if it ran on another machine.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath

from automoe_jax.errors import UserError
from automoe_jax.runtime.files import atomic_writer, is_local
from automoe_jax.runtime.processes import first_alone

LOCK = "lock.json"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextlib.contextmanager
def locked(folder: epath.Path) -> Iterator[None]:
    """Holds the lock of an existing folder, in process 0, while the block runs.

    Raises `UserError` in all processes if another run holds it or the lock's file cannot be
    written. A folder that may only be read and holds files is left unlocked: nothing in it can
    change.
    """
    held: list[Callable[[], None]] = []
    first_alone(lambda: held.append(_take(folder)))
    try:
        yield
    finally:
        for release in held:
            release()


def _take(folder: epath.Path) -> Callable[[], None]:
    """Takes the lock; returns the function that gives it up."""
    path = folder / LOCK
    if not is_local(folder):
        return _take_by_content(path)
    try:
        descriptor = _locked_file(path)
    except BlockingIOError:
        raise UserError(_in_use(path, _owner(path))) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return _take_by_content(path)
        if error.errno in _READ_ONLY and any(folder.iterdir()):
            return _nothing
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}); name a folder in which you may"
            " write"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, _description())

    def release() -> None:
        path.unlink(missing_ok=True)
        os.close(descriptor)

    return release


def _locked_file(path: epath.Path) -> int:
    """The locked file's descriptor; raises `BlockingIOError` if another process has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder removed the file in between: no other process would find this lock.
            if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take_by_content(path: epath.Path) -> Callable[[], None]:
    owner = _owner(path)
    if owner.get("host") == socket.gethostname():
        if _runs_here(owner.get("process")):
            raise UserError(f"{_in_use(path, owner)}; if that is no run, remove {path}")
    elif owner:
        print(
            f"warning: {_in_use(path, owner)}. It cannot be seen from here whether it still runs:"
            " two runs that write to one workdir spoil it",
            file=sys.stderr,
            flush=True,
        )
    mine = _description()
    with atomic_writer(path) as file:
        file.write(mine)

    def release() -> None:
        if path.exists() and path.read_bytes() == mine:
            path.unlink()

    return release


def _nothing() -> None:
    """Nothing to give up."""


def _description() -> bytes:
    return json.dumps(
        {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        }
    ).encode()


def _owner(path: epath.Path) -> dict[str, Any]:
    """The content of a lock's file; empty if there is none or it is not complete."""
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _in_use(path: epath.Path, owner: dict[str, Any]) -> str:
    who = (
        f"process {owner.get('process')} on {owner.get('host')} since {owner.get('started')}"
        if owner
        else "another process"
    )
    return (
        f"{path.parent} is in use by {who}; wait for that run to end or stop it, or name another"
        " --workdir"
    )


def _runs_here(process: Any) -> bool:
    """Whether another process of this number runs on this machine."""
    if not isinstance(process, int) or process <= 0 or process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
