"""Checkpoints by Orbax: asynchronous, the last ones and the best ones.

A checkpoint holds the training state and the position in the data, so training resumes with the
exact next batch. All processes write it together; any number of processes and any mesh can read it.
A checkpoint that cannot be read is moved aside, and the one before is restored.
"""

import contextlib
import gc
import itertools
import json
import logging
import math
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from automoe_jax.config import TrainConfig
from automoe_jax.errors import UserError
from automoe_jax.names import VALIDATION
from automoe_jax.runtime.files import absolute
from automoe_jax.runtime.processes import any_process, is_first, wait_for_all
from automoe_jax.train.step import TrainState

ABANDONED_SECONDS = 0.5  # longest time until reads of a broken checkpoint end
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one training run, in `folder`."""

    def __init__(self, folder: epath.PathLike, train: TrainConfig) -> None:
        """Opens or creates the folder; keeps the checkpoints that averaging and the settings
        require.
        """
        logging.getLogger("absl").addFilter(_not_raised_too)
        self._folder = absolute(folder)
        if is_first():
            _move_broken_metrics(self._folder)
        wait_for_all("metrics of checkpoints")
        self._every, self._steps = train.checkpoint_every, train.steps
        keep = [
            # One more than is averaged: SIGTERM adds a checkpoint between the regular ones.
            checkpoint_managers.LatestN(train.average_checkpoints + 1),
            checkpoint_managers.BestN(
                get_metric_fn=lambda metrics: metrics[VALIDATION], reverse=True, n=train.keep_best
            ),
        ]
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
                best_fn=lambda metrics: metrics[VALIDATION],
                best_mode="min",
                enable_async_checkpointing=True,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, state: TrainState, data: grain.DatasetIterator, validation_nll: float) -> None:
        """Starts writing a checkpoint; returns before it is on disk.

        One that a signal asked for is not a candidate for the best one: it would displace a regular
        checkpoint, and a run without the interruption does not have it.
        """
        step = int(state.step)
        if step % self._every and step < self._steps:
            validation_nll = math.inf
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()), data=ocp.args.JsonSave(data.get_state())
        )
        self._manager.save(step, args=items, metrics={VALIDATION: validation_nll}, force=True)
        for irregular in [s for s in self._manager.all_steps() if s < step and s % self._every]:
            self._manager.delete(irregular)

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self._manager.wait_until_finished()

    def restore(self, state: TrainState, data: grain.DatasetIterator) -> TrainState | None:
        """The newest state that can be read, with `data` set to its position; None if there is no
        checkpoint.

        Newer checkpoints, which cannot be read, are named in a warning and moved to the folder
        `unreadable_checkpoints` next to this one. Raises `UserError` if there are checkpoints and
        none of them can be read; all of them then stay where they are.
        """
        unreadable: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            restored, unreadable[step] = self._read(
                step,
                state=ocp.args.StandardRestore(_abstract(state._asdict())),
                data=ocp.args.JsonRestore(),
            )
            if restored is not None:
                del unreadable[step]
                self._move_aside(unreadable)
                data.set_state(restored["data"])
                return TrainState(**restored["state"])
        if unreadable:
            newest = max(unreadable)
            raise UserError(
                f"none of the {len(unreadable)} checkpoints in {self._folder} can be read"
                f" ({newest}: {unreadable[newest]}); if they are of another version of this package"
                " or of its libraries, continue with that one, else remove that folder to train"
                " from the start"
            )
        return None

    def _move_aside(self, unreadable: Mapping[int, str]) -> None:
        """Moves these checkpoints, given with their errors, out of the folder."""
        for step, reason in unreadable.items():
            _log.warning(
                "checkpoint %d cannot be read (%s); falling back to the one before, and moving it"
                " to %s",
                step,
                reason,
                _aside(self._folder),
            )
            if is_first():
                _move(self._folder / str(step), _aside(self._folder))
        if unreadable:
            wait_for_all("checkpoints moved aside")
            self._manager.reload()

    def best_params(self, state: TrainState) -> dict[str, Any]:
        """The parameters with the lowest validation loss among the checkpoints; `state`'s own if
        none can be read.
        """
        self.wait()
        best = self._manager.best_step()
        return next(self._readable_params([] if best is None else [best], state), state.params)

    def averaged_params(self, state: TrainState, count: int) -> dict[str, Any]:
        """The mean of the parameters of the last `count` regular checkpoints, `state`'s own being
        the newest.
        """
        self.wait()
        last = int(state.step)
        older = [
            s
            for s in sorted(self._manager.all_steps(), reverse=True)
            if s < last and s % self._every == 0
        ][: count - 1]
        mean, averaged = state.params, 1
        for params in self._readable_params(older, state):
            averaged += 1
            mean = _moved(mean, params, 1 / averaged)
        return mean

    def _readable_params(self, steps: list[int], state: TrainState) -> Iterator[dict[str, Any]]:
        abstract = _abstract(state._asdict())
        for step in steps:
            restored, reason = self._read(step, state=ocp.args.StandardRestore(abstract))
            if restored is None:
                _log.warning("checkpoint %d cannot be read (%s); it is left out", step, reason)
            else:
                yield restored["state"]["params"]

    def _read(
        self, step: int, **items: ocp.args.CheckpointArgs
    ) -> tuple[Mapping[str, Any] | None, str]:
        """(these items of a checkpoint, ""); (None, the reason) if any process cannot read them."""
        restored, reason = None, "another process could not read it"
        try:
            with _abandoned_reads_ignored():
                restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax and its storage raise many kinds for a broken file
            reason = _in_short(error)
        return (None, reason) if any_process(restored is None) else (restored, "")


def _move_broken_metrics(folder: epath.Path) -> None:
    """Moves aside the metrics of checkpoints that hold none: opening the folder would fail. Such a
    checkpoint is restored like any other, but is not a candidate for the best one.
    """
    for step in folder.iterdir() if folder.exists() else ():
        path = step / "metrics" / "metrics"
        if not path.exists():
            continue
        try:
            float(json.loads(path.read_text())[VALIDATION])
        except (ValueError, TypeError, KeyError) as error:
            aside = _aside(folder) / step.name
            _log.warning("%s cannot be read (%s); it is moved to %s", path, _in_short(error), aside)
            _move(path.parent, aside)


def _aside(folder: epath.Path) -> epath.Path:
    """The folder next to that of the checkpoints for those that cannot be read."""
    return folder.parent / f"unreadable_{folder.name}"


def _move(path: epath.Path, folder: epath.Path) -> None:
    """Moves a file or folder into another folder, under a new name if its own is taken there."""
    folder.mkdir(parents=True, exist_ok=True)
    names = itertools.chain([path.name], (f"{path.name}-{n}" for n in itertools.count(2)))
    path.rename(next(folder / name for name in names if not (folder / name).exists()))


def save_params(folder: epath.PathLike, params: dict[str, Any]) -> None:
    """Writes parameters to a new folder, complete or not at all; all processes with parts of them
    must call it.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(absolute(folder), params, force=True)


def load_params(folder: epath.PathLike, like: dict[str, Any]) -> dict[str, Any]:
    """Loads what `save_params` wrote on any mesh, as NumPy arrays, for a tree of the same shapes,
    which may be abstract.

    Each process reads all of it by itself. Raises `UserError` if it cannot be read.
    """
    try:
        with (
            _abandoned_reads_ignored(),
            ocp.StandardCheckpointer(**_by_itself()) as checkpointer,
        ):
            return checkpointer.restore(absolute(folder), jax.tree.map(_on_the_host, like))
    except Exception as error:  # as above
        raise UserError(
            f"the weights in {folder} cannot be read ({_in_short(error)}); remove that folder and"
            " run automoe_jax.main again, which writes it again"
        ) from None


def _by_itself() -> dict[str, Any]:
    """Options with which one of several processes reads without waiting for the others."""
    if jax.process_count() == 1:
        return {}
    this = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process_{this}"
    )
    return {"multiprocessing_options": options}


@jax.jit
def _moved(mean: dict[str, Any], params: dict[str, Any], share: float) -> dict[str, Any]:
    """`mean` moved towards `params` by this share, with the placement of its arrays."""
    return jax.tree.map(lambda old, new: old + (new - old) * share, mean, params)


def _on_the_host(array: Any) -> np.ndarray:
    """A NumPy array of this shape and dtype without memory: Orbax restores into arrays of the given
    kind.
    """
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def _abstract(tree: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


@contextlib.contextmanager
def _abandoned_reads_ignored() -> Iterator[None]:
    """If the block raises, ignores later errors of its other reads in the background: Python would
    print their tracebacks, and the first error is enough.
    """
    before = sys.unraisablehook
    try:
        yield
    except Exception as error:
        sys.unraisablehook = lambda _: None
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        time.sleep(ABANDONED_SECONDS)
        raise
    finally:
        sys.unraisablehook = before


def _not_raised_too(record: logging.LogRecord) -> bool:
    """False for a failure that Orbax logs with its traceback, because it also raises it and we
    explain it.
    """
    return not (record.exc_info and "orbax" in record.pathname)


def _in_short(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
