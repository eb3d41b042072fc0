"""Several processes as one program, with JAX's own runtime.

A lost process ends the others too: at once if a collective operation fails, otherwise when JAX's
runtime has not heard from it for `HEARTBEAT_SECONDS`. A process that fails by itself waits
`END_SECONDS`, in which the others may fail in the same way with their own messages, and then ends
them.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from automoe_jax.errors import UserError

JOIN_SECONDS = 120
HEARTBEAT_SECONDS = 60
END_SECONDS = 30

_LOST = (
    "another process of this run has ended or cannot be reached; see what it said last, then run"
    " the same command again in every process, it continues where it stopped"
)
# Words in JAX's errors about a process that is missing in a collective operation or barrier.
_SIGNS_OF_LOSS = (
    "Gloo",
    "NCCL",
    "coordination service",
    "CoordinationService",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
)
_abort_handler: Any = None  # referenced here because C holds no reference


class Membership(NamedTuple):
    """Number of this process, number of processes and their coordinator; None: detected by JAX."""

    coordinator: str | None = None  # HOST:PORT, served by process 0
    processes: int | None = None
    process: int | None = None


def membership(
    distributed: bool, coordinator: str | None, processes: int | None, process: int | None
) -> Membership | None:
    """Membership from main's flags; None for a single process. Raises `UserError` for inconsistent
    flags.
    """
    if coordinator is None and processes is None and process is None:
        return Membership() if distributed else None
    if coordinator is None or processes is None or process is None:
        raise UserError(
            "--coordinator=HOST:PORT, --processes=N and --process=I go together; give all three or"
            " none"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator={coordinator} must be HOST:PORT, where process 0 listens")
    if not 0 <= process < processes:
        raise UserError(
            f"--process={process} must be at least 0 and less than --processes={processes}"
        )
    return Membership(coordinator, processes, process)


def join(member: Membership) -> None:
    """Connects to the other processes; call it before anything asks for devices.

    If not all are connected after `JOIN_SECONDS`, the process prints a message and ends: JAX's
    runtime then aborts, which cannot be caught.
    """
    where = (
        f"at --coordinator={member.coordinator}"
        if member.coordinator
        else "at the coordinator that JAX found"
    )
    count = member.processes or "all"
    said = (
        f"error: {count} processes have not met {where} within {JOIN_SECONDS} s; see that each of"
        " them runs and reaches process 0 there"
    )
    limit = threading.Timer(JOIN_SECONDS, _end, [said])
    limit.daemon = True
    limit.start()
    # JAX's own handler would hide SIGTERM from the training loop and ignore it elsewhere.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            *member,
            # With all arguments given, JAX must not ask the cluster: under Slurm a process would
            # get only one GPU.
            cluster_detection_method="deactivate" if member.coordinator else None,
            initialization_timeout=2 * JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=END_SECONDS,
        )
        _when_aborted(1, f"error: {_LOST}\n")
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the processes cannot meet: {reason}; say where with --coordinator, --processes and"
            " --process"
        ) from None
    finally:
        limit.cancel()
    if jax.default_backend() == "cpu":
        # Only process 0 writes to the cache, and on CPU no other process finds its programs there:
        # it would wait for the others to compile, longer than Gloo waits.
        jax.config.update("jax_enable_compilation_cache", False)


def is_first() -> bool:
    """Whether this is process 0 or the only process."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when every process has reached the barrier of this name."""
    if jax.distributed.is_initialized():
        multihost_utils.sync_global_devices(name)


def gathered(text: str) -> list[str]:
    """The value of each process, in the order of their numbers; all must call it."""
    if not jax.distributed.is_initialized():
        return [text]
    mine = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(mine)))
    padded = np.zeros(max(1, lengths.max()), np.uint8)
    padded[: len(mine)] = mine
    rows = multihost_utils.process_allgather(padded)
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


def largest(number: int) -> int:
    """The largest of the numbers that the processes give; all must call it."""
    if not jax.distributed.is_initialized():
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all must call it."""
    return bool(largest(int(flag)))


def first_alone(work: Callable[[], Any]) -> None:
    """Runs the work in process 0 while the others wait; a `UserError` there is raised in all of
    them.
    """
    said = ""
    if is_first():
        try:
            work()
        except UserError as error:
            said = str(error)
    if said := gathered(said)[0]:
        raise UserError(said)


@contextlib.contextmanager
def explaining_loss() -> Iterator[None]:
    """Turns JAX's errors about a lost process in the block into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if jax.distributed.is_initialized() and any(sign in str(error) for sign in _SIGNS_OF_LOSS):
            raise UserError(f"{_LOST} ({str(error).splitlines()[0][:200]})") from None
        raise


def leave(code: int) -> NoReturn:
    """Ends this process with the exit code, after its last message; the others have `END_SECONDS`
    to end by themselves.
    """
    if code and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        # JAX's messages about the others follow
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        _when_aborted(code, "")
        with contextlib.suppress(Exception):
            jax.distributed.shutdown()
        os._exit(code)
    sys.exit(code)


def _when_aborted(code: int, said: str) -> None:
    """Installs the message and exit code for an abort by JAX's runtime, which happens when another
    process is missing.

    Python does not run its signal handlers then, so this one is installed in C.
    """

    def handle(_: int) -> None:
        os.write(2, said.encode())
        os._exit(code)

    global _abort_handler
    _abort_handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
    ctypes.CDLL(None).signal(int(signal.SIGABRT), _abort_handler)


def _end(said: str) -> None:
    print(said, file=sys.stderr, flush=True)
    os._exit(1)
