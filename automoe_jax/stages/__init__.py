"""The stages of an experiment, each of which reads and leaves files in the workdir.

A stage is a module of this package with run(config, workdir), imported when its turn comes:
training need not wait for what draws the report.
"""

import functools
import importlib
import time

from automoe_jax.config import STAGES, Config, stage_names
from automoe_jax.errors import UserError
from automoe_jax.runtime.processes import first_alone, is_first, wait_for_all
from automoe_jax.workdir import Workdir

_SHARED = {"supernet", "search", "retrain"}  # by all processes; the first runs the others alone


def run_stages(config: Config, workdir: Workdir) -> None:
    """Runs the configured stages in order and skips the finished ones.

    Raises `UserError` for a stage whose predecessors are not finished.
    """
    for stage in stage_names(config):
        if workdir.is_done(stage):
            print(f"{stage}: finished before, skipped", flush=True)
            continue
        missing = [name for name in STAGES[: STAGES.index(stage)] if not workdir.is_done(name)]
        if missing:
            raise UserError(
                f"the stage {stage!r} needs {missing[0]!r}, which is not finished in"
                f" {workdir.root}; run it first"
            )
        print(f"{stage}: starts", flush=True)
        started = time.perf_counter()
        run = importlib.import_module(f"{__name__}.{stage}").run
        if stage in _SHARED:
            run(config, workdir)
        else:
            first_alone(functools.partial(run, config, workdir))
        seconds = time.perf_counter() - started
        if is_first():
            workdir.mark_done(stage, seconds)
        wait_for_all(stage)
        print(f"{stage}: finished in {seconds:.0f} s", flush=True)
    if workdir.is_done("report"):
        print(f"report: {workdir.root / 'report.html'}", flush=True)
