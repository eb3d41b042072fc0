"""Several processes as one program, over JAX's own runtime."""

import os
import sys
import threading
from typing import NamedTuple

import jax
from jax.experimental import multihost_utils

from automoe_jax.errors import UserError

JOIN_SECONDS = 120


class Membership(NamedTuple):
    """Which of how many processes this one is, and where they meet; None: what JAX finds out."""

    coordinator: str | None = None  # HOST:PORT, served by process 0
    processes: int | None = None
    process: int | None = None


def membership(distributed: bool, coordinator: str | None, processes: int | None, process: int | None) -> Membership | None:
    """What main's flags say; None for a process of its own. Raises `UserError` for flags that do not fit together."""
    if coordinator is None and processes is None and process is None:
        return Membership() if distributed else None
    if coordinator is None or processes is None or process is None:
        raise UserError("--coordinator=HOST:PORT, --processes=N and --process=I go together; give all three or none")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator={coordinator} must be HOST:PORT, where process 0 listens")
    if not 0 <= process < processes:
        raise UserError(f"--process={process} must be at least 0 and less than --processes={processes}")
    return Membership(coordinator, processes, process)


def join(member: Membership) -> None:
    """Meets the other processes; call it before anything asks for devices.

    If they have not all met after `JOIN_SECONDS`, the process says so and ends: JAX's runtime then aborts, which
    nothing can catch.
    """
    where = f"at --coordinator={member.coordinator}" if member.coordinator else "at the coordinator that JAX found"
    count = member.processes or "all"
    said = f"error: {count} processes have not met {where} within {JOIN_SECONDS} s; see that each of them runs and reaches process 0 there"
    limit = threading.Timer(JOIN_SECONDS, _end, [said])
    limit.daemon = True
    limit.start()
    try:
        jax.distributed.initialize(member.coordinator, member.processes, member.process, initialization_timeout=2 * JOIN_SECONDS)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the processes cannot meet: {reason}; say where with --coordinator, --processes and --process") from None
    finally:
        limit.cancel()


def is_first() -> bool:
    """Whether this is process 0, or the only one."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when every process has got to the place of this name."""
    if jax.distributed.is_initialized():
        multihost_utils.sync_global_devices(name)


def _end(said: str) -> None:
    print(said, file=sys.stderr, flush=True)
    os._exit(1)
