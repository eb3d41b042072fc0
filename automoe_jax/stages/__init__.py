"""The stages of an experiment, each of which reads and leaves files in the workdir.

A stage is a module of this package with run(config, workdir), imported when its turn comes:
training need not wait for what draws the report.
"""

import functools
import importlib
import signal
import time
from collections.abc import Collection

from automoe_jax.config import STAGES, Config, stage_names
from automoe_jax.data.batching import rows_per_batch
from automoe_jax.errors import UserError
from automoe_jax.inference.quantise import load_qwix
from automoe_jax.runtime.interruption import Interrupted, ctrl_c_gets_through
from automoe_jax.runtime.processes import first_alone, is_first, wait_for_all
from automoe_jax.runtime.sharding import placement
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
    """Raises `UserError` for settings that ask for devices or libraries that are not there, before
    any of these stages takes its time.
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
    if "evaluate" in stages and config.evaluate.int8:
        load_qwix()


def run_stages(config: Config, workdir: Workdir) -> None:
    """Runs the configured stages in order and skips the finished ones.

    Raises `UserError` for a stage whose predecessors are not finished, and before the first one for
    settings that some stage could not work with here; `Interrupted` after Ctrl-C in any stage or
    SIGTERM in training or the search.
    """
    waiting = [stage for stage in stage_names(config) if not workdir.is_done(stage)]
    check_environment(config, waiting)
    for stage in stage_names(config):
        try:
            with ctrl_c_gets_through():
                _run_stage(stage, config, workdir)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted in the stage {stage!r}; run the same command again: {stage}"
                f" {_CONTINUES[stage]}",
                signal.SIGINT,
            ) from None
    if workdir.is_done("report"):
        print(f"report: {workdir.root / 'report.html'}", flush=True)


def _run_stage(stage: str, config: Config, workdir: Workdir) -> None:
    if workdir.is_done(stage):
        print(f"{stage}: finished before, skipped", flush=True)
        return
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
