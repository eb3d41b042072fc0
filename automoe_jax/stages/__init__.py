"""Stages of an experiment; each reads and writes files in the workdir.

A stage is a module of this package with run(config, workdir), imported only when it runs: training
does not wait for the report's libraries.
"""

import functools
import importlib
import json
import os
import signal
import time
from collections.abc import Collection

from automoe_jax.config import STAGES, Config, stage_names
from automoe_jax.data.batching import rows_per_batch
from automoe_jax.data.origin import changed
from automoe_jax.errors import UserError
from automoe_jax.runtime.files import is_local, read_json
from automoe_jax.runtime.interruption import (
    Interrupted,
    ctrl_c_gets_through,
    ctrl_c_waits,
    ignore_abandoned_work,
)
from automoe_jax.runtime.processes import first_alone, gathered, is_first, wait_for_all
from automoe_jax.runtime.sharding import placement
from automoe_jax.stages.files import unfinished
from automoe_jax.workdir import Workdir

# How each stage continues after an interruption that was not answered by saving.
_CONTINUES = {
    "prepare": "starts again",
    "supernet": "continues from its last checkpoint",
    "search": "continues after its last recorded candidate",
    "retrain": "continues from its last checkpoint",
    "evaluate": "continues after the last network whose outputs are written",
    "report": "starts again",
}
_SHARED = {"supernet", "search", "retrain"}  # by all processes; the first runs the others alone


def check_environment(config: Config, stages: Collection[str]) -> None:
    """Raises `UserError` for settings that need missing devices or libraries, before any of these
    stages starts.
    """
    training = [name for name in ("supernet", "retrain") if name in stages]
    if training or "search" in stages:
        parts = placement(config).sentence_parts
        for name in training:
            train = getattr(config, name)
            try:
                rows_per_batch(
                    config.data.buckets[-1], train.tokens_per_batch, train.accumulate * parts
                )
            except UserError as error:
                raise UserError(f"config.{name}.{error}") from None


def run_stages(config: Config, workdir: Workdir) -> None:
    """Runs the configured stages in order and skips the finished ones.

    Raises `UserError` for a stage whose predecessors are not finished, and before the first one for
    settings that some stage could not work with here; `Interrupted` after Ctrl-C in any stage or
    SIGTERM in training or the search.
    """
    first_alone(functools.partial(_check_text, workdir))
    waiting: dict[str, str] = {
        stage: f"{path} is missing" if path else "it has not finished"
        for stage, path in unfinished(config, workdir).items()
    }
    waiting = json.loads(gathered(json.dumps(waiting))[0])  # before any process changes a file
    check_environment(config, [stage for stage in stage_names(config) if stage in waiting])
    for stage in stage_names(config):
        try:
            with ctrl_c_gets_through():
                _run_stage(stage, waiting, config, workdir)
        except KeyboardInterrupt:
            ignore_abandoned_work()
            raise Interrupted(
                f"interrupted in the stage {stage!r}; run the same command again: {stage}"
                f" {_CONTINUES[stage]}",
                signal.SIGINT,
            ) from None
    if workdir.is_done("report"):
        print(f"report: {workdir.root / 'report.html'}", flush=True)


def _run_stage(stage: str, waiting: dict[str, str], config: Config, workdir: Workdir) -> None:
    """Runs a stage that is among those waiting, given with the reason, and takes it from them."""
    if stage not in waiting:
        print(f"{stage}: finished before, skipped", flush=True)
        return
    for before in STAGES[: STAGES.index(stage)]:
        if before in waiting:
            raise UserError(
                f"the stage {stage!r} needs {before!r}, which is not finished in"
                f" {workdir.root} ({waiting[before]}); run it first"
            )
    first_alone(functools.partial(_check_writable, workdir))
    if workdir.is_done(stage):
        print(f"{stage}: {waiting[stage]}", flush=True)
    print(f"{stage}: starts", flush=True)
    started = time.perf_counter()
    with ctrl_c_waits():
        run = importlib.import_module(f"{__name__}.{stage}").run
    if stage in _SHARED:
        run(config, workdir)
    else:
        first_alone(functools.partial(run, config, workdir))
    seconds = time.perf_counter() - started
    if is_first():
        workdir.mark_done(stage, seconds)
    wait_for_all(stage)
    del waiting[stage]
    print(f"{stage}: finished in {seconds:.0f} s", flush=True)


def _check_text(workdir: Workdir) -> None:
    """Raises `UserError` if a local file that the text was prepared from has changed since."""
    if not workdir.is_done("prepare") or not workdir.statistics_path.exists():
        return
    path = changed(read_json(workdir.statistics_path, dict).get("files", {}))
    if path:
        raise UserError(
            f"{path} has changed since its text was prepared for {workdir.root}; name another"
            " --workdir for the new text, or continue with the old one: restore that file, or move"
            " it away, since the workdir holds the prepared text"
        )


def _check_writable(workdir: Workdir) -> None:
    if is_local(workdir.root) and not os.access(workdir.root, os.W_OK):
        raise UserError(
            f"{workdir.root} cannot be written to; make it writable, or name another --workdir"
        )
